//! Who may vouch for a relay, and the handshake: rustls with aws-lc-rs, the host name always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::TroubleKind;
use super::settings::RelaySettings;
use super::wire::{Line, trouble_of};

/// What is needed to encrypt a connection to one relay.
#[derive(Clone)]
pub(super) struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl TlsClient {
    /// Encrypts a connection.
    pub(super) async fn handshake(&self, stream: TcpStream) -> Result<Line, TroubleKind> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.server_name.clone(), stream).await.map_err(|error| trouble_of(&error))?;
        Ok(Line::tls(stream))
    }
}

/// Reads the certificates a relay's settings name; an error names the key.
pub(super) fn client(settings: &RelaySettings) -> Result<TlsClient, (&'static str, String)> {
    let name = settings.tls_server_name.as_ref().unwrap_or(&settings.host);
    let name_key = if settings.tls_server_name.is_some() { "tls_server_name" } else { "host" };
    let server_name =
        ServerName::try_from(name.clone()).map_err(|_| (name_key, "no certificate can carry this name".to_owned()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ("tls", error.to_string()))?;
    let builder = match &settings.ca_file {
        Some(file) => builder.with_root_certificates(roots(file).map_err(|what| ("ca_file", what))?),
        None => builder.with_platform_verifier().map_err(|error| ("ca_file", error.to_string()))?,
    };
    let config = match (&settings.client_cert_file, &settings.client_key_file) {
        (Some(chain), Some(key)) => {
            let chain = certificates(chain).map_err(|what| ("client_cert_file", what))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| ("client_key_file", error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| ("client_key_file", error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsClient { config: Arc::new(config), server_name })
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("holds no certificate (PEM)".to_owned()) } else { Ok(certificates) }
}
