//! The beginning of a connection: encryption, who we are, and what the server tells of itself.
//! It must never send a password before it was asked for, nor in the clear to a server that was to be encrypted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use super::address::{Address, Host, Secret, TlsMode};
use super::connection::Session;
use super::error::PgError;
use super::stream::Stream;
use super::tls::encrypt;
use super::wire::{Message, Wire, lost, server_error, text};

/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;
/// What asks for encryption.
const TLS_REQUEST: u32 = 80_877_103;

/// Settings that a server tells by itself at the beginning, such as `server_version`.
type Settings = BTreeMap<String, String>;

/// Connects and says who we are.
pub(super) fn connect(
    address: &Address,
    session: Session,
    cancel: &Cancel,
) -> Result<(Wire, Settings), PgError> {
    let failed = |cause| PgError::Connect {
        address: address.to_string(),
        cause,
    };
    let stream = Stream::connect(address).map_err(failed)?;
    let stream = maybe_encrypted(stream, address, cancel)?;
    let mut wire = Wire::new(stream);
    wire.send(None, &startup(address, session))?;
    let settings = authenticate(&mut wire, address, cancel)?;
    Ok((wire, settings))
}

fn startup(address: &Address, session: Session) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    let replication = match session {
        Session::Queries => None,
        Session::Replication => Some(("replication", "true")),
    };
    let pairs = [
        ("user", &*address.user),
        ("database", &*address.database),
        ("application_name", "lifeboat"),
        ("client_encoding", "UTF8"),
        // What is read here is read by a program.
        ("datestyle", "ISO"),
    ];
    let settings = address.settings.iter();
    let settings = settings.map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in pairs.into_iter().chain(replication).chain(settings) {
        for text in [key, value] {
            body.extend(text.bytes().filter(|byte| *byte != 0));
            body.push(0);
        }
    }
    body.push(0);
    body
}

fn maybe_encrypted(stream: Stream, address: &Address, cancel: &Cancel) -> Result<Stream, PgError> {
    let is_wanted = matches!(address.host, Host::Tcp(_)) && address.tls != TlsMode::Disable;
    let Stream::Tcp(mut stream) = stream else {
        return Ok(stream);
    };
    if !is_wanted {
        return Ok(Stream::Tcp(stream));
    }
    let mut request = 8_u32.to_be_bytes().to_vec();
    request.extend(TLS_REQUEST.to_be_bytes());
    stream
        .write_all(&request)
        .map_err(lost("ask for encryption"))?;
    let (mut answer, began) = ([0], Instant::now());
    loop {
        cancel.check()?;
        // Nothing behind this one byte is read before the encryption begins.
        match stream.read(&mut answer) {
            Ok(1) => break,
            Ok(_) => {
                return Err(lost("ask for encryption")(
                    std::io::ErrorKind::UnexpectedEof.into(),
                ));
            }
            Err(_) if began.elapsed() < address.connect_timeout => {}
            Err(cause) => return Err(lost("ask for encryption")(cause)),
        }
    }
    match (answer, address.tls) {
        ([b'S'], _) => {
            let stream =
                encrypt(stream, address, cancel).map_err(lost("encrypt the connection"))?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        ([b'N'], TlsMode::Prefer) => Ok(Stream::Tcp(stream)),
        ([b'N'], _) => Err(PgError::NoTls {
            address: address.to_string(),
        }),
        ([other], _) => Err(PgError::Protocol(format!(
            "{other:#x} when it was asked for encryption"
        ))),
    }
}

fn authenticate(wire: &mut Wire, address: &Address, cancel: &Cancel) -> Result<Settings, PgError> {
    let password = || {
        address
            .password
            .as_ref()
            .map(|Secret(text)| text.as_str())
            .ok_or_else(|| PgError::NoPassword {
                address: address.to_string(),
            })
    };
    let mut settings = Settings::new();
    let mut scram: Option<ScramSha256> = None;
    // A server that recovers from a crash takes connections late; it says so by itself.
    let silence: Option<Duration> = Some(address.connect_timeout);
    loop {
        let Message { tag, body } = wire.receive(cancel, silence)?;
        match tag {
            b'R' => {
                let Some((kind, rest)) = body.split_first_chunk::<4>() else {
                    return Err(PgError::Protocol("half an answer about passwords".into()));
                };
                match u32::from_be_bytes(*kind) {
                    0 => {}
                    3 => wire.send(Some(b'p'), &ended(password()?))?,
                    5 => {
                        let salt = rest.first_chunk::<4>().copied().unwrap_or_default();
                        let hash = md5_hash(address.user.as_bytes(), password()?.as_bytes(), salt);
                        wire.send(Some(b'p'), &ended(&hash))?;
                    }
                    10 => {
                        let offered = rest.split(|byte| *byte == 0);
                        if !offered
                            .into_iter()
                            .any(|name| name == SCRAM_SHA_256.as_bytes())
                        {
                            return Err(unknown(
                                address,
                                "a way of authentication without SCRAM-SHA-256",
                            ));
                        }
                        let began =
                            ScramSha256::new(password()?.as_bytes(), ChannelBinding::unsupported());
                        let first = began.message();
                        let mut body = ended(SCRAM_SHA_256);
                        body.extend(u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes());
                        body.extend_from_slice(first);
                        wire.send(Some(b'p'), &body)?;
                        scram = Some(began);
                    }
                    11 => {
                        let begun = scram.as_mut().ok_or_else(out_of_turn)?;
                        begun.update(rest).map_err(lost("prove the password"))?;
                        wire.send(Some(b'p'), begun.message())?;
                    }
                    12 => {
                        let begun = scram.as_mut().ok_or_else(out_of_turn)?;
                        // Who does not know the password either is not the server that it says.
                        begun
                            .finish(rest)
                            .map_err(lost("prove that the server knows the password"))?;
                    }
                    7..=9 => return Err(unknown(address, "GSSAPI")),
                    other => {
                        return Err(unknown(address, &format!("authentication of kind {other}")));
                    }
                }
            }
            b'S' => {
                if let Some((key, rest)) = text(&body)
                    && let Some((value, _)) = text(rest)
                {
                    settings.insert(key, value);
                }
            }
            b'Z' => return Ok(settings),
            b'E' => {
                return Err(PgError::Refused {
                    doing: format!("connect to {address}"),
                    cause: server_error(&body),
                });
            }
            // The key of the session, news, and versions of the protocol that it does not know.
            b'K' | b'N' | b'v' => {}
            other => {
                return Err(PgError::Protocol(format!(
                    "message {:?} before it was ready",
                    char::from(other)
                )));
            }
        }
    }
}

fn ended(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn unknown(address: &Address, what: &str) -> PgError {
    PgError::Unknown {
        address: address.to_string(),
        what: what.to_owned(),
    }
}

fn out_of_turn() -> PgError {
    PgError::Protocol("a step of SCRAM that nobody began".into())
}
