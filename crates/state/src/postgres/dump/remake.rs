//! The SQL that makes a database anew as it was: with its encoding and locale first, and what belongs to it last.
//! It must never put a name or value into SQL that is not quoted.

use super::super::quote::{quoted_name, quoted_text};
use super::super::verify::names_in_list;
use super::database::DatabaseRecord;

/// Settings that are lists of names, which are quoted one by one (PostgreSQL source, `GUC_LIST_QUOTE`).
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];
/// The first version that tells who knows a locale.
const WITH_PROVIDER: u32 = 150_000;

/// What there is to grant on a database.
const RIGHTS: [&str; 4] = ["CREATE", "CONNECT", "TEMPORARY", "TEMP"];

impl DatabaseRecord {
    /// Makes it, empty, under some name on a server of this version.
    #[must_use]
    pub fn create(&self, called: &str, version: u32) -> String {
        let mut sql = format!(
            "create database {} template template0 encoding {} lc_collate {} lc_ctype {}",
            quoted_name(called),
            quoted_text(&self.encoding),
            quoted_text(&self.collate),
            quoted_text(&self.ctype)
        );
        // A record may come from anywhere, and these are no names that could be quoted.
        let known = ["icu", "builtin"].into_iter();
        let mut known = known.filter(|known| self.locale_provider.as_deref() == Some(*known));
        let provider = known.next().unwrap_or("libc");
        // An older server does not know the word; one that should know another provider must say that it does not.
        if version >= WITH_PROVIDER || provider != "libc" {
            sql.push_str(&format!(" locale_provider {provider}"));
        }
        if let Some(locale) = &self.locale {
            sql.push_str(&format!(" {provider}_locale {}", quoted_text(locale)));
        }
        if let Some(rules) = &self.icu_rules {
            sql.push_str(&format!(" icu_rules {}", quoted_text(rules)));
        }
        sql
    }

    /// Gives it, under some name, what belongs to it; without `roles` only what names none.
    #[must_use]
    pub fn properties(&self, called: &str, roles: bool) -> Vec<String> {
        let database = quoted_name(called);
        let mut all = Vec::new();
        if let Some(comment) = &self.comment {
            all.push(format!(
                "comment on database {database} is {}",
                quoted_text(comment)
            ));
        }
        if self.connection_limit >= 0 {
            let limit = self.connection_limit;
            all.push(format!(
                "alter database {database} connection limit {limit}"
            ));
        }
        for setting in &self.settings {
            let what = match &setting.role {
                None => format!("database {database}"),
                Some(role) if roles => format!("role {} in database {database}", quoted_name(role)),
                Some(_) => continue,
            };
            let value = match LISTS.contains(&&*setting.name) {
                false => quoted_text(&setting.value),
                true => match names_in_list(&setting.value).as_slice() {
                    [] => quoted_text(""),
                    names => names
                        .iter()
                        .map(|one| quoted_text(one))
                        .collect::<Vec<_>>()
                        .join(", "),
                },
            };
            all.push(format!(
                "alter {what} set {} to {value}",
                quoted_name(&setting.name)
            ));
        }
        if !roles {
            return all;
        }
        all.push(format!(
            "alter database {database} owner to {}",
            quoted_name(&self.owner)
        ));
        if let Some(privileges) = &self.privileges {
            let owner = quoted_name(&self.owner);
            all.push(format!(
                "revoke all on database {database} from public, {owner}"
            ));
            for privilege in privileges {
                let role = privilege
                    .role
                    .as_deref()
                    .map_or("public".to_owned(), quoted_name);
                let option = match privilege.grantable {
                    true => " with grant option",
                    false => "",
                };
                let mut rights = RIGHTS.iter();
                let Some(what) = rights.find(|right| **right == privilege.privilege) else {
                    continue;
                };
                all.push(format!(
                    "grant {what} on database {database} to {role}{option}"
                ));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::{PrivilegeRecord, SettingRecord};
    use super::*;

    #[test]
    fn a_database_is_made_as_each_version_wants_it() {
        let mut database = DatabaseRecord {
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: r"C'\".into(),
            ..DatabaseRecord::default()
        };
        let old = r#"create database "a""b" template template0 encoding 'UTF8' lc_collate 'C' lc_ctype E'C''\\'"#;
        assert_eq!(database.create("a\"b", 140_000), old);
        assert_eq!(
            database.create("a\"b", 150_000),
            format!("{old} locale_provider libc")
        );
        database.locale_provider = Some("icu".into());
        database.locale = Some("de".into());
        assert_eq!(
            database.create("a\"b", 170_000),
            format!("{old} locale_provider icu icu_locale 'de'")
        );
    }

    #[test]
    fn what_belongs_to_it_is_quoted_and_roles_can_be_left_out() {
        let setting = |role: Option<&str>, name: &str, value: &str| SettingRecord {
            role: role.map(str::to_owned),
            name: name.into(),
            value: value.into(),
        };
        let database = DatabaseRecord {
            owner: "me".into(),
            connection_limit: 7,
            settings: vec![
                setting(None, "search_path", "\"$user\", \"a,b\", public"),
                setting(Some("r\"x"), "a.b", "it's"),
                setting(None, "temp_tablespaces", ""),
            ],
            privileges: Some(vec![PrivilegeRecord {
                role: None,
                privilege: "CONNECT".into(),
                grantable: true,
            }]),
            ..DatabaseRecord::default()
        };
        assert_eq!(
            database.properties("d", true),
            [
                r#"alter database "d" connection limit 7"#,
                r#"alter database "d" set "search_path" to '$user', 'a,b', 'public'"#,
                r#"alter role "r""x" in database "d" set "a.b" to 'it''s'"#,
                r#"alter database "d" set "temp_tablespaces" to ''"#,
                r#"alter database "d" owner to "me""#,
                r#"revoke all on database "d" from public, "me""#,
                r#"grant CONNECT on database "d" to public with grant option"#,
            ]
        );
        assert_eq!(database.properties("d", false).len(), 3);
    }
    #[test]
    fn a_right_that_is_none_is_not_granted() {
        let right = |privilege: &str| PrivilegeRecord {
            role: Some("r".into()),
            privilege: privilege.into(),
            grantable: false,
        };
        let mut database = DatabaseRecord {
            owner: "me".into(),
            connection_limit: -1,
            privileges: Some(vec![right(
                "all on database d to x; drop table t; grant TEMP",
            )]),
            ..DatabaseRecord::default()
        };
        let nobody = [
            r#"alter database "d" owner to "me""#,
            r#"revoke all on database "d" from public, "me""#,
        ];
        assert_eq!(database.properties("d", true), nobody);
        database.privileges = Some(Vec::new());
        assert_eq!(database.properties("d", true), nobody);
        database.privileges = Some(vec![right("CREATE")]);
        assert_eq!(
            database.properties("d", true).last().map(String::as_str),
            Some(r#"grant CREATE on database "d" to "r""#)
        );
    }
}
