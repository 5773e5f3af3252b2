//! What the texts of the fleet file must look like, with a pattern for editors.
//! A pattern never refuses what the reader takes; the reader may be stricter.

use crate::jitter::JITTER_PATTERN;
use crate::keys::Form;
use crate::names::{
    FLEET_NAME_MAX_CHARS, FLEET_NAME_PATTERN, HOST_PATTERN, NAME_MAX_CHARS, NAME_PATTERN,
    VARIABLE_PATTERN,
};
use crate::size::{RATE_PATTERN, SIZE_PATTERN};
use crate::time_span::TIME_SPAN_PATTERN;

macro_rules! forms {
    ($($id:ident = $name:literal, $pattern:expr, $max_chars:expr;)*) => {
        $(pub(crate) static $id: Form = Form {
            name: $name,
            pattern: $pattern,
            max_chars: $max_chars,
        };)*
    };
}

forms! {
    TEXT = "text", None, None;
    FLEET_NAME = "name of a fleet", Some(FLEET_NAME_PATTERN), Some(FLEET_NAME_MAX_CHARS);
    NAME = "name", Some(NAME_PATTERN), Some(NAME_MAX_CHARS);
    HOST = "name of a host", Some(HOST_PATTERN), None;
    VARIABLE = "name of an environment variable", Some(VARIABLE_PATTERN), None;
    TIME_SPAN = "length of time", Some(TIME_SPAN_PATTERN), None;
    SIZE = "size", Some(SIZE_PATTERN), None;
    RATE = "rate", Some(RATE_PATTERN), None;
    SCHEDULE = "schedule", Some("^(hourly|daily|weekly|monthly|every +([0-9]+[wdhm])+| *[0-9A-Za-z*/,-]+( +[0-9A-Za-z*/,-]+){4} *)$"), None;
    JITTER = "jitter", Some(JITTER_PATTERN), None;
    TIME_ZONE = "time zone", Some("^(local|[A-Za-z0-9_+/-]+)$"), None;
    PATH = "path", Some("^[^\\u0000]+$"), None;
    SERVER_PATH = "absolute path", Some("^/"), None;
    PATTERN = "pattern", Some("^[^\\u0000]+$"), None;
    REPOSITORY_URL = "repository", None, None;
    POSTGRES_URL = "URL of a PostgreSQL server", Some("^postgres(ql)?://"), None;
    NOTIFY_URL = "URL", Some("^(https?|ntfy|smtps?|alertmanager\\+https?)://"), None;
    SUBSET = "share of the data", Some("^([1-9][0-9]?|100)%$|^[1-9][0-9]*/[1-9][0-9]*$"), None;
    SHELL = "command", None, None;
}
