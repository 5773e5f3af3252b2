//! How the way to a value is written: `apps.memos.volumes.assets.path`, `notify[0].url`.
//! It never lets a key through that would look like two, or like the end of the line.

use crate::problems::shown;

/// The path of `key` below `path`.
pub(crate) fn below(path: &str, key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let key = if !key.is_empty() && key.bytes().all(plain) {
        key.to_owned()
    } else {
        shown(key)
    };
    match path {
        "" => key,
        path => format!("{path}.{key}"),
    }
}

/// The path of an item of the list at `path`, counted from 0.
pub(crate) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_dots_and_breaks_are_quoted() {
        assert_eq!(below("", "apps"), "apps");
        assert_eq!(below("apps", "a-b_c"), "apps.a-b_c");
        assert_eq!(below("commands", "config.xml"), "commands.\"config.xml\"");
        assert_eq!(below("apps", "a\nb"), "apps.\"a\\nb\"");
        assert_eq!(item("notify", 2), "notify[2]");
    }
}
