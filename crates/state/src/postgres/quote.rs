//! Names and texts as SQL and the commands of the replication protocol take them.
//! It must never let a name or text lead out of its quotes, whatever is in it.

/// A name.
#[must_use]
pub fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, whatever `standard_conforming_strings` says.
#[must_use]
pub fn quoted_text(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', r"\\")),
        false => format!("'{quoted}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_its_quotes() {
        assert_eq!(quoted_name(r#"a"b'\"#), r#""a""b'\""#);
        assert_eq!(quoted_text("it's a"), "'it''s a'");
        assert_eq!(quoted_text(r"it's a \'"), r"E'it''s a \\'''");
    }
}
