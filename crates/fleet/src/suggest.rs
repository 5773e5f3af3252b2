//! The name that somebody may have meant who wrote one that nobody knows.
//! It never guesses what shares little with the word that was written.

/// A hint that names the nearest of `known`, or all of them if there are few.
pub(crate) fn hint_for<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    none: &str,
) -> String {
    /// More names than that are no help.
    const LISTED_MAX: usize = 16;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(nearest) = nearest(word, &known) {
        return format!("did you mean `{nearest}`?");
    }
    match known.len() {
        0 => none.to_owned(),
        1..=LISTED_MAX => format!("known are: {}", known.join(", ")),
        many => format!("{many} others are known"),
    }
}

/// The nearest name, if it is near: a third of the word may differ.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    /// What is longer is no slip of a key; comparing takes the product of both lengths.
    const WORD_MAX_CHARS: usize = 64;
    let length = word.chars().count();
    if length > WORD_MAX_CHARS {
        return None;
    }
    let lower = word.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    let near = known.iter().map(|name| (distance(name), *name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= (length / 3).max(1) && distance < name.chars().count()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = ["schedule", "keep", "rpo", "rto", "copies"];
        for (word, hint) in [
            ("shedule", "did you mean `schedule`?"),
            ("Keep", "did you mean `keep`?"),
            ("copys", "known are: schedule, keep, rpo, rto, copies"),
            ("kepe", "did you mean `keep`?"),
            ("retention", "known are: schedule, keep, rpo, rto, copies"),
        ] {
            assert_eq!(hint_for(word, known, ""), hint, "{word}");
        }
        assert_eq!(hint_for("a", [], "there is none"), "there is none");
        assert_eq!(hint_for("a", ["b"; 17], ""), "17 others are known");
    }
}
