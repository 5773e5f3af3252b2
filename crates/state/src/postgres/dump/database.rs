//! What a database is beside what is in it: its encoding, locale, owner, settings and privileges, which no dump brings back.
//! It must never leave one out that somebody named: a dump of less than was asked for is none.

use lifeboat_flow::Cancel;
use serde::{Deserialize, Serialize};

use super::super::client::{Connection, PgError, Row};
use super::super::facts::ANSWER_TIMEOUT;

/// A database that can't be used any more, because dropping it was interrupted (PostgreSQL manual, `pg_database`).
const INVALID: &str = "-2";

/// A database, as it is made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseRecord {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// Its encoding, as the server calls it.
    pub encoding: String,
    /// Its order of texts.
    pub collate: String,
    /// What its characters are.
    pub ctype: String,
    /// Who knows the locale: `libc`, `icu` or `builtin`; servers before 15 don't tell, and it is libc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale_provider: Option<String>,
    /// The locale of a provider other than libc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Rules that were added to an ICU locale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    /// How many sessions it allows, -1 for any number.
    pub connection_limit: i64,
    /// What somebody noted of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Settings of its sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<SettingRecord>,
    /// Who may do what with it; `None` for what is so by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Vec<PrivilegeRecord>>,
}

/// A setting of sessions with a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRecord {
    /// Only for this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivilegeRecord {
    /// Whose; everybody's if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What, as SQL calls it.
    pub privilege: String,
    /// Whether it may be handed on.
    pub grantable: bool,
}

impl DatabaseRecord {
    /// Whether there is something to give to it that an empty database does not have.
    #[must_use]
    pub fn has_properties(&self) -> bool {
        self.connection_limit >= 0 || !self.settings.is_empty() || self.privileges.is_some()
    }
}

/// The databases of a server can't be told, or are not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DatabasesError {
    /// The server can't be asked.
    #[error("ask for the databases")]
    Ask(#[from] PgError),
    /// One is not there.
    #[error("the server has no database {name:?}; it has {}", .known.join(", "))]
    Unknown {
        /// The one that was named.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// One lets nobody in.
    #[error("the database {0:?} allows no connections")]
    Closed(String),
    /// There is nothing to dump.
    #[error("the server has no database that can be dumped")]
    None,
}

/// The databases that were named, or else all that are no templates; and the names of those that were passed over because
/// they let nobody in.
///
/// # Errors
/// When one that was named is not there or lets nobody in, or there is none at all.
pub fn databases(
    connection: &mut Connection,
    version: u32,
    named: &[String],
    cancel: &Cancel,
) -> Result<(Vec<DatabaseRecord>, Vec<String>), DatabasesError> {
    let mut ask = |sql: &str| connection.query(sql, Some(ANSWER_TIMEOUT), cancel);
    let (mut chosen, mut closed, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for row in ask(&listing(version))? {
        let Ok(
            [
                Some(name),
                template,
                open,
                Some(owner),
                Some(encoding),
                collate,
                ctype,
                limit,
                comment,
                provider,
                locale,
                rules,
            ],
        ) = <[Option<String>; 12]>::try_from(row)
        else {
            continue;
        };
        known.push(name.clone());
        let is_open = open.as_deref() == Some("t") && limit.as_deref() != Some(INVALID);
        let is_wanted = match named {
            [] => template.as_deref() != Some("t"),
            named => named.contains(&name),
        };
        match (is_wanted, is_open) {
            (false, _) => {}
            (true, false) => closed.push(name),
            (true, true) => chosen.push(DatabaseRecord {
                name,
                owner,
                encoding,
                collate: collate.unwrap_or_default(),
                ctype: ctype.unwrap_or_default(),
                locale_provider: provider.as_deref().map(provider_name),
                locale,
                icu_rules: rules,
                connection_limit: limit.and_then(|limit| limit.parse().ok()).unwrap_or(-1),
                comment,
                settings: Vec::new(),
                privileges: None,
            }),
        }
    }
    if let Some(name) = named.iter().find(|name| !known.contains(name)) {
        return Err(DatabasesError::Unknown {
            name: name.clone(),
            known,
        });
    }
    if let Some(name) = closed.first().filter(|_| !named.is_empty()) {
        return Err(DatabasesError::Closed(name.clone()));
    }
    if chosen.is_empty() {
        return Err(DatabasesError::None);
    }
    let of = |chosen: &mut [DatabaseRecord], name: &str| {
        chosen.iter().position(|database| database.name == name)
    };
    for row in ask(SETTINGS)? {
        if let Ok([Some(database), role, Some(setting)]) = <[Option<String>; 3]>::try_from(row)
            && let Some(at) = of(&mut chosen, &database)
            && let Some(database) = chosen.get_mut(at)
            && let Some((name, value)) = setting.split_once('=')
        {
            database.settings.push(SettingRecord {
                role,
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
    }
    for row in ask(RESTRICTED)? {
        if let Ok([Some(database)]) = <[Option<String>; 1]>::try_from(row)
            && let Some(at) = of(&mut chosen, &database)
            && let Some(database) = chosen.get_mut(at)
        {
            database.privileges.get_or_insert_default();
        }
    }
    for row in ask(PRIVILEGES)? {
        if let Ok([Some(database), role, Some(privilege), grantable]) =
            <[Option<String>; 4]>::try_from(row)
            && let Some(at) = of(&mut chosen, &database)
            && let Some(database) = chosen.get_mut(at)
        {
            database
                .privileges
                .get_or_insert_default()
                .push(PrivilegeRecord {
                    role,
                    privilege,
                    grantable: grantable.as_deref() == Some("t"),
                });
        }
    }
    Ok((chosen, closed))
}

fn listing(version: u32) -> String {
    let provider = match version {
        150_000.. => "d.datlocprovider",
        _ => "null",
    };
    let locale = match version {
        170_000.. => "d.datlocale",
        150_000.. => "d.daticulocale",
        _ => "null",
    };
    let rules = match version {
        160_000.. => "d.daticurules",
        _ => "null",
    };
    format!(
        "select d.datname, d.datistemplate, d.datallowconn, r.rolname, pg_catalog.pg_encoding_to_char(d.encoding), \
         d.datcollate, d.datctype, d.datconnlimit, pg_catalog.shobj_description(d.oid, 'pg_database'), \
         {provider}, {locale}, {rules} \
         from pg_catalog.pg_database d join pg_catalog.pg_roles r on r.oid = d.datdba order by 1"
    )
}

/// Roles that are gone have no settings any more.
const SETTINGS: &str = "select d.datname, r.rolname, c.setting from pg_catalog.pg_db_role_setting s \
    join pg_catalog.pg_database d on d.oid = s.setdatabase left join pg_catalog.pg_roles r on r.oid = s.setrole \
    cross join lateral pg_catalog.unnest(s.setconfig) as c (setting) where s.setrole = 0 or r.rolname is not null";
/// Those whose rights are not the usual ones, also where nobody has any.
const RESTRICTED: &str = "select datname from pg_catalog.pg_database where datacl is not null";
const PRIVILEGES: &str = "select d.datname, r.rolname, a.privilege_type, a.is_grantable from pg_catalog.pg_database d \
    cross join lateral pg_catalog.aclexplode(d.datacl) a left join pg_catalog.pg_roles r on r.oid = a.grantee \
    where d.datacl is not null and (a.grantee = 0 or r.rolname is not null)";

/// The letter of the catalog as SQL calls it.
fn provider_name(letter: &str) -> String {
    match letter {
        "c" => "libc",
        "i" => "icu",
        "b" => "builtin",
        _ => "libc",
    }
    .to_owned()
}

/// What a query gives in its first row and column.
pub(super) fn first(rows: Vec<Row>) -> Option<String> {
    rows.into_iter().next()?.into_iter().next()?
}
