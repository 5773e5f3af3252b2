//! Whether a URL has a password in it, as far as that can be seen.
//! It rather finds one too many than one too few, and never shows what it found.

/// Names of parameters that hold credentials.
const SECRET_PARAMETERS: [&str; 8] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "auth",
    "apikey",
    "api_key",
];

/// Whether there is a password before the host of `url`, or among its parameters.
pub(crate) fn holds_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return scp_like(url);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if let Some((user, _)) = authority.rsplit_once('@') {
        if user.contains(':') {
            return true;
        }
    } else if let Some((_, port)) = authority.rsplit_once(':') {
        // A password with a slash in it ends the authority for everybody but its user.
        let is_port = port.is_empty() || port.parse::<u16>().is_ok() || authority.ends_with(']');
        if !is_port && after.contains('@') {
            return true;
        }
    }
    let query = after.split_once('?').map_or("", |(_, query)| query);
    query.split(['&', '#']).any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.to_ascii_lowercase();
        !value.is_empty()
            && SECRET_PARAMETERS
                .iter()
                .any(|secret| name.ends_with(secret))
    })
}

/// `user:password@host:path`.
fn scp_like(text: &str) -> bool {
    let end = text.find('/').unwrap_or(text.len());
    let authority = text.get(..end).unwrap_or(text);
    authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_seen() {
        for url in [
            "postgresql://u:p@h/d",
            "postgresql://u:p@ss@h/d",
            "postgresql://u:s3/cr@h/d",
            "postgresql://h/d?password=x",
            "postgresql://h/d?a=b&sslpassword=x",
            "https://h/x?token=abc",
            "u:p@h:/srv",
            "smtp://:p@h",
        ] {
            assert!(holds_password(url), "{url}");
        }
        for url in [
            "postgresql://u@h/d",
            "postgresql://h:5432/d",
            "postgresql:///d?host=/run/pg",
            "https://[::1]:80/a@b",
            "smtp://h:587?to=a@b.c",
            "u@h:/srv/x@y",
            "https://h/a:b",
            "",
        ] {
            assert!(!holds_password(url), "{url}");
        }
    }
}
