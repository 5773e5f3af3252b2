//! Encryption of a connection, as strict as `sslmode` asks for.
//! It must never be less strict than libpq is for the same words.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use lifeboat_flow::Cancel;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};

use super::address::{Address, Host, TlsMode};

/// Encrypts a connection to the server of an address.
pub(super) fn encrypt(
    stream: TcpStream,
    address: &Address,
    cancel: &Cancel,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let Host::Tcp(host) = &address.host else {
        return Err(io::Error::other(
            "a socket of this machine is not encrypted",
        ));
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier {
        inner: authorities(address)?
            .map(|roots| {
                WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                    .build()
            })
            .transpose()
            .map_err(io::Error::other)?,
        any_name: address.tls != TlsMode::VerifyFull,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // Where any name will do, so does what the system resolves and TLS has no name for, such as 127.1.
    let nameless = ServerName::from(Ipv4Addr::UNSPECIFIED);
    let name = match ServerName::try_from(host.clone()) {
        Err(_) if address.tls != TlsMode::VerifyFull => nameless,
        name => name.map_err(io::Error::other)?,
    };
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = stream;
    let began = Instant::now();
    while connection.is_handshaking() {
        cancel.check().map_err(io::Error::other)?;
        if began.elapsed() > address.connect_timeout {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match connection.complete_io(&mut stream) {
            Ok(_) => {}
            // Reads end after one poll.
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Whom to believe; nobody is asked if the mode does not want to know whose server it is. As in libpq, `require` with a
/// file of authorities means `verify-ca`.
fn authorities(address: &Address) -> io::Result<Option<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    match (&address.root_certificates, address.tls) {
        (Some(path), TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull) => {
            let pem = std::fs::read(path)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots
                    .add(certificate.map_err(io::Error::other)?)
                    .map_err(io::Error::other)?;
            }
            if roots.is_empty() {
                return Err(io::Error::other(format!(
                    "{} holds no certificate",
                    path.display()
                )));
            }
        }
        // Anybody may have a certificate of those.
        (None, TlsMode::VerifyCa) => {
            return Err(io::Error::other(
                "sslmode=verify-ca needs sslrootcert, a file of authorities; verify-full does without",
            ));
        }
        (None, TlsMode::VerifyFull) => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
        _ => return Ok(None),
    }
    Ok(Some(roots))
}

/// Asks the authorities, if there are any to ask, and about the name, if it matters.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    any_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        match inner.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
