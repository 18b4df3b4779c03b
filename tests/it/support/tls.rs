//! Certificates made for a test, and relays that speak TLS on one side and none on the other.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener as AsyncListener, TcpStream},
    sync::oneshot,
};

/// Who issues certificates.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// What a client speaks TLS with that believes this authority.
    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Pair {
    /// Writes both files, as `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, &self.certificate).unwrap();
        std::fs::write(file.with_extension("key"), &self.key).unwrap();
        file
    }

    /// What a server speaks TLS with; with `clients`, only with those whom that authority knows.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = clients.roots();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        builder.with_single_cert(vec![certificate], key).unwrap()
    }
}

/// Connects who connects to it with somebody else, and speaks TLS with one of the two.
pub(crate) struct Relay {
    address: SocketAddr,
    _end: oneshot::Sender<()>,
}

impl Relay {
    /// Speaks TLS with those who connect, as a server before `target` would.
    pub(crate) fn before(target: SocketAddr, config: ServerConfig) -> Self {
        Self::before_at(super::anywhere(), target, config)
    }

    /// The same at this address.
    pub(crate) fn before_at(at: SocketAddr, target: SocketAddr, config: ServerConfig) -> Self {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Self::start(at, move |client| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(target).await.unwrap();
                let _end = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        })
    }

    /// Speaks TLS with `target`, which is to be `name`, for those who connect.
    pub(crate) fn to(target: SocketAddr, name: &'static str, config: ClientConfig) -> Self {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Self::start(super::anywhere(), move |mut client| {
            let connector = connector.clone();
            async move {
                let name = ServerName::try_from(name).unwrap();
                let server = TcpStream::connect(target).await.unwrap();
                let mut server = connector.connect(name, server).await.unwrap();
                let _end = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        })
    }

    fn start<F: Future<Output = ()> + 'static>(
        at: SocketAddr,
        relay: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = super::listening(at);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .unwrap();
            runtime.block_on(async move {
                let listener = AsyncListener::from_std(listener).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        stream.set_nodelay(true).unwrap();
                        tokio::task::spawn_local(relay(stream));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, _end: end }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
