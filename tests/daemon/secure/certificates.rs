//! An authority of one test's own, with certificates for a server on this machine and for a client.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;

/// PEM files of certificates and keys, as long as it lives.
pub struct Certificates {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Pair {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// Both in one file, the key first: a key store as Kafka takes it.
    pub store: PathBuf,
}

impl Certificates {
    /// A new authority.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names, none wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority signs itself");
        let folder = tempfile::tempdir().expect("a scratch folder");
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("the scratch folder can be written");
        Self { folder, authority }
    }

    /// The authority's own certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server's certificate, for 127.0.0.1 and localhost.
    pub fn server(&self) -> Pair {
        self.pair("server", &["127.0.0.1", "localhost"], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate.
    pub fn client(&self) -> Pair {
        self.pair("client", &["roomcast"], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn pair(&self, name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are right");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages.push(usage);
        let key = key();
        let cert = params.signed_by(&key, &self.authority).expect("the authority signs");
        let file = |kind: &str, text: &str| -> PathBuf {
            let path = self.folder.path().join(format!("{name}.{kind}"));
            fs::write(&path, text).expect("the scratch folder can be written");
            path
        };
        Pair {
            cert: file("crt", &cert.pem()),
            key: file("key", &key.serialize_pem()),
            store: file("store", &format!("{}{}", key.serialize_pem(), cert.pem())),
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

/// A path as config files take it.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("scratch folders have plain names")
}
