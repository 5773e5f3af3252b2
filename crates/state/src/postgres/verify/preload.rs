//! Which libraries a scratch server loads of those that the live one was started with.
//! It must never load one that nobody vouches for: pg_cron would run the jobs of the live cluster a second time.

/// What a restored cluster can't be read without, and what can be kept from doing anything by a setting. All others are left
/// out: they watch, they act on their own, or they are not known.
const NEEDED: [&str; 1] = ["timescaledb"];
/// What keeps those from doing anything.
pub(super) const QUIET: [(&str, &str); 1] = [("timescaledb.max_background_workers", "0")];

/// Which are loaded and which are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preload {
    /// They are loaded, and must be installed.
    pub loaded: Vec<String>,
    /// They are not.
    pub left_out: Vec<String>,
}

impl Preload {
    /// From the value of `shared_preload_libraries` of the live server, and the names of those that somebody vouches for.
    #[must_use]
    pub fn choose(setting: &str, vouched: &[String]) -> Self {
        let is_wanted = |name: &String| {
            NEEDED.contains(&plain(name)) || vouched.iter().any(|other| plain(other) == plain(name))
        };
        let (loaded, left_out) = names(setting).into_iter().partition(is_wanted);
        Self { loaded, left_out }
    }

    /// The value of `shared_preload_libraries` for the scratch server.
    #[must_use]
    pub fn setting(&self) -> String {
        let quoted = self
            .loaded
            .iter()
            .map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
        quoted.collect::<Vec<String>>().join(",")
    }
}

/// A library by its name alone.
fn plain(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.strip_suffix(".so").unwrap_or(name)
}

/// The names in a list: with commas between them, in double quotes where they have a comma or quotes themselves
/// (PostgreSQL manual, `shared_preload_libraries`).
pub(in crate::postgres) fn names(setting: &str) -> Vec<String> {
    let (mut names, mut name, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = setting.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                name.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => names.push(std::mem::take(&mut name)),
            other => name.push(other),
        }
    }
    names.push(name);
    let names = names.iter().map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_or_vouched_for_is_loaded() {
        let setting = "pg_cron, $libdir/timescaledb,\"a,\"\"b\" , vchord.so,pg_stat_statements,";
        let chosen = Preload::choose(setting, &["vchord".into()]);
        assert_eq!(chosen.loaded, ["$libdir/timescaledb", "vchord.so"]);
        assert_eq!(chosen.left_out, ["pg_cron", "a,\"b", "pg_stat_statements"]);
        assert_eq!(chosen.setting(), "\"$libdir/timescaledb\",\"vchord.so\"");
        assert_eq!(Preload::choose("", &["vchord".into()]), Preload::default());
        let odd = Preload::choose(setting, &["a,\"b".into()]);
        assert_eq!(odd.setting(), "\"$libdir/timescaledb\",\"a,\"\"b\"");
    }
}
