//! Accounts of a NATS server as an operator signs them: what `nsc` writes, in the form that its JWT
//! library documents (version 2), for one user with JetStream.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator, its system account, one account and one user.
pub struct Accounts {
    /// The server's lines.
    pub server: String,
    /// The user's credentials file: a JWT and a seed.
    pub credentials: String,
}

impl Accounts {
    /// New keys for all of them.
    pub fn new() -> Self {
        let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
        let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
        let none = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1});
        let mut all = none.clone();
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            all[limit] = json!(-1);
        }
        let of_operator = sign(&operator, &operator, json!({"type": "operator"}));
        let of_system = sign(&operator, &system, json!({"type": "account", "limits": none}));
        let of_account = sign(&operator, &account, json!({"type": "account", "limits": all}));
        let of_user = sign(&account, &user, json!({"type": "user", "subs": -1, "data": -1, "payload": -1}));
        let (system, account) = (system.public_key(), account.public_key());
        Self {
            server: format!(
                "operator: {of_operator}\nsystem_account: {system}\nresolver: MEMORY\n\
                 resolver_preload: {{ {system}: {of_system}, {account}: {of_account} }}\n"
            ),
            credentials: format!(
                "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                user.seed().expect("a new pair has its seed")
            ),
        }
    }
}

/// A JWT about `subject`, by `issuer`.
fn sign(issuer: &KeyPair, subject: &KeyPair, mut nats: Value) -> String {
    nats["version"] = json!(2);
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let claims = json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "name": "test", "sub": subject.public_key(), "nats": nats,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("a new pair can sign");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
