//! What of a remote may be shown: rclone takes settings in its name, `:s3,access_key_id=…,secret_access_key=…:bucket`.
//! It must never show the value of a setting, because nobody knows which of them are secrets.

/// What stands for a value.
const HIDDEN: &str = "***";
/// Shorter values are only hidden in the remote itself: in other texts they would hide what is no secret.
const VALUE_MIN_BYTES: usize = 4;

/// A part of a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// What may be shown.
    Plain(&'a str),
    /// The value of a setting, as it is written.
    Value(&'a str),
}

/// The remote without the values in it, as rclone reads one (its documentation, "Connection strings").
pub(in crate::backend) fn shown(remote: &str) -> String {
    parts(remote)
        .into_iter()
        .map(|part| match part {
            Part::Plain(text) => text,
            Part::Value(_) => HIDDEN,
        })
        .collect()
}

/// Hides what stands in a remote from other texts, as rclone's own words.
#[derive(Clone, Default)]
pub(super) struct Veil {
    /// What is hidden, the longest first, and what is shown instead.
    hidden: Vec<(String, String)>,
}

impl Veil {
    /// For a remote.
    pub(super) fn of(remote: &str) -> Self {
        let mut hidden = vec![(remote.to_owned(), shown(remote))];
        for part in parts(remote) {
            if let Part::Value(written) = part {
                hidden.push((written.to_owned(), HIDDEN.to_owned()));
                hidden.push((unquoted(written), HIDDEN.to_owned()));
            }
        }
        hidden.retain(|(text, instead)| text.len() >= VALUE_MIN_BYTES && text != instead);
        hidden.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self { hidden }
    }

    /// The text without what nobody may see.
    pub(super) fn over(&self, text: &str) -> String {
        let hide = |text: String, (hidden, instead): &(String, String)| {
            text.replace(hidden.as_str(), instead)
        };
        self.hidden.iter().fold(text.to_owned(), hide)
    }
}

impl std::fmt::Debug for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

fn parts(remote: &str) -> Vec<Part<'_>> {
    // A remote without a name begins with a colon and the kind of place.
    let name_from = usize::from(remote.starts_with(':'));
    let name = remote.get(name_from..).unwrap_or_default();
    let name_ends = name.find([',', ':', '/']).map(|at| at + name_from);
    let Some(mut at) = name_ends.filter(|at| remote[*at..].starts_with(',')) else {
        return vec![Part::Plain(remote)];
    };
    let mut parts = vec![Part::Plain(&remote[..at])];
    while remote[at..].starts_with(',') {
        let setting = &remote[at..];
        let key_bytes = setting[1..].find(['=', ',', ':']);
        let key_bytes = key_bytes.map_or(setting.len(), |end| end + 1);
        let has_value = setting[key_bytes..].starts_with('=');
        let (key, rest) = setting.split_at(key_bytes + usize::from(has_value));
        parts.push(Part::Plain(key));
        at += key.len();
        if has_value {
            let (value, _) = rest.split_at(value_bytes(rest));
            parts.push(Part::Value(value));
            at += value.len();
        }
    }
    match remote[at..].chars().next() {
        None => {}
        Some(':') => parts.push(Part::Plain(&remote[at..])),
        // No remote that rclone takes: nobody knows where a value ends.
        Some(_) => parts.push(Part::Value(&remote[at..])),
    }
    parts
}

/// How long a value is: to the next comma or colon, or to the quote that ends it; two of them stand for one in it.
fn value_bytes(text: &str) -> usize {
    let Some(quote) = text.chars().next().filter(|first| "\"'".contains(*first)) else {
        return text.find([',', ':']).unwrap_or(text.len());
    };
    let mut at = 1;
    while let Some(end) = text[at..].find(quote) {
        at += end + 1;
        if !text[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    text.len()
}

fn unquoted(value: &str) -> String {
    let quote = value.chars().next().filter(|first| "\"'".contains(*first));
    let Some(quote) = quote else {
        return value.to_owned();
    };
    let inner = value.strip_prefix(quote).unwrap_or(value);
    let inner = inner.strip_suffix(quote).unwrap_or(inner);
    inner.replace(&format!("{quote}{quote}"), &quote.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_and_nothing_else() {
        for (remote, expected) in [
            ("b2:bucket/path", "b2:bucket/path"),
            (":s3:bucket", ":s3:bucket"),
            ("b2:a,b=c:d", "b2:a,b=c:d"),
            ("/srv/a,b=c", "/srv/a,b=c"),
            (
                ":s3,access_key_id=GK1,secret_access_key=geheim:bucket/a,b=c",
                ":s3,access_key_id=***,secret_access_key=***:bucket/a,b=c",
            ),
            ("b2,hard_delete:bucket", "b2,hard_delete:bucket"),
            ("b2,hard_delete,key=x:", "b2,hard_delete,key=***:"),
            ("sftp,pass=a/b:x", "sftp,pass=***:x"),
            (
                r#":sftp,host=h,pass="a,b:""c=d",user=me:x"#,
                ":sftp,host=***,pass=***,user=***:x",
            ),
            (":sftp,pass='it''s:it':x", ":sftp,pass=***:x"),
            // What rclone would not take shows nothing either.
            (r#":sftp,pass="no end:x"#, ":sftp,pass=***"),
            (r#":sftp,pass="ab"geheim:x"#, ":sftp,pass=******"),
            (":sftp,pass=", ":sftp,pass=***"),
            (":sftp,", ":sftp,"),
            ("", ""),
            (":", ":"),
            (",", ","),
        ] {
            assert_eq!(shown(remote), expected, "{remote}");
        }
    }

    #[test]
    fn what_rclone_says_of_it_is_hidden_too() {
        let remote = r#":s3,id=GK1,secret="ge,""heim":bucket"#;
        let veil = Veil::of(remote);
        for (said, expected) in [
            (
                format!("Failed to create {remote}: no"),
                "Failed to create :s3,id=***,secret=***:bucket: no",
            ),
            ("bad key ge,\"heim here".to_owned(), "bad key *** here"),
            ("nothing of it".to_owned(), "nothing of it"),
        ] {
            assert_eq!(veil.over(&said), expected);
        }
        assert_eq!(Veil::of("b2:bucket").over("b2:bucket"), "b2:bucket");
        assert!(!format!("{veil:?}").contains("heim"));
    }
}
