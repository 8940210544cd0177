//! What a provider said, made fit for logs and letters: no secret, one line, at most 1 KiB.
//!
//! Every [`Trouble`] of a provider is made here, so that no answer can carry a secret past it (P8).
//! It never judges what an answer means; the providers' `outcome` files do.

use secrecy::{ExposeSecret, SecretString};

use super::{Fault, Reply, Trouble};

/// The longest text of a [`Trouble`], in bytes (design, section 5).
const TEXT_BYTES: usize = 1_024;
/// The longest code of a [`Trouble`], in bytes: codes are words or numbers.
const CODE_BYTES: usize = 64;
/// A run of letters and digits this long is no word: app tokens have more than 80 characters, a
/// CheckSum has 40, while UUIDs (36) and MD5 sums (32) may be shown.
const TOKEN_CHARS: usize = 40;
/// How Easemob's app tokens begin; one that was cut off is still a token.
const TOKEN_HEAD: &str = "YWMt";
/// What stands in place of a secret.
const MASK: &str = "***";

/// Takes an account's secrets out of what others said.
#[derive(Default)]
pub(super) struct Cleaner {
    /// Each secret as it is, as JSON writes it and as a form writes it; longest first.
    needles: Vec<SecretString>,
}

impl Cleaner {
    /// Knows these secrets by heart; tokens that a login made are told by their looks.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut needles: Vec<String> = Vec::new();
        for secret in secrets {
            let plain = secret.expose_secret();
            let quoted = serde_json::Value::from(plain).to_string();
            let form: String = form_urlencoded::byte_serialize(plain.as_bytes()).collect();
            needles.extend([plain.to_owned(), quoted[1..quoted.len() - 1].to_owned(), form]);
        }
        needles.retain(|needle| !needle.is_empty());
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self { needles: needles.into_iter().map(SecretString::from).collect() }
    }

    /// A trouble that an answer tells.
    pub(super) fn answered(&self, reply: &Reply, code: Option<&str>, text: &str) -> Trouble {
        Trouble {
            status: Some(reply.status),
            code: code.map(|code| self.line(code, CODE_BYTES)),
            text: self.line(text, TEXT_BYTES),
        }
    }

    /// A trouble without an answer.
    pub(super) fn unanswered(&self, fault: &Fault) -> Trouble {
        let (Fault::NotSent(text) | Fault::Unknown(text)) = fault;
        Trouble { status: None, code: None, text: self.line(text, TEXT_BYTES) }
    }

    /// The body of an answer that is not in the provider's form, as text.
    pub(super) fn raw(&self, reply: &Reply) -> String {
        if reply.body.is_empty() {
            return "an answer without a body".to_owned();
        }
        self.line(&String::from_utf8_lossy(&reply.body), TEXT_BYTES)
    }

    fn line(&self, text: &str, limit: usize) -> String {
        one_line(&self.clean(text), limit)
    }

    /// A text of any length without secrets and tokens.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for needle in &self.needles {
            // A needle can only be contained in a longer one that was replaced before it.
            if text.contains(needle.expose_secret()) {
                text = text.replace(needle.expose_secret(), MASK);
            }
        }
        mask_tokens(&text)
    }
}

/// Whether the byte may stand in a token: base64 in both alphabets, and hexadecimal.
fn token_byte(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-')
}

/// Masks what looks like a token: long runs of mixed letters and digits, Easemob's tokens by their
/// head, and whatever follows the word `Bearer`.
fn mask_tokens(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut after_bearer = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if !token_byte(first) {
            clean.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| !token_byte(c)).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        let long = run.len() >= TOKEN_CHARS
            && run.bytes().any(|b| b.is_ascii_digit())
            && run.bytes().any(|b| b.is_ascii_alphabetic());
        clean.push_str(if long || after_bearer || run.contains(TOKEN_HEAD) { MASK } else { run });
        after_bearer = run.eq_ignore_ascii_case("bearer");
        rest = tail;
    }
    clean
}

/// One line without control characters, at most `limit` bytes; what was cut off shows as `…`.
fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > limit {
            line.truncate(line.floor_char_boundary(limit - '…'.len_utf8()));
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        let secret = SecretString::from("s3cr\"et/ é");
        Cleaner::new([&secret]).line(text, TEXT_BYTES)
    }

    #[test]
    fn secrets_go_in_every_spelling() {
        assert_eq!(clean(r#"a s3cr"et/ é b"#), "a *** b");
        assert_eq!(clean(r#"{"client_secret":"s3cr\"et/ é"}"#), r#"{"client_secret":"***"}"#);
        assert_eq!(clean("secret=s3cr%22et%2F+%C3%A9&x=1"), "secret=***&x=1");
    }

    #[test]
    fn tokens_are_told_by_their_looks() {
        assert_eq!(clean("corrupt token YWMtAbc"), "corrupt token ***");
        assert_eq!(clean("Authorization: Bearer abc, next"), "Authorization: Bearer ***, next");
        assert_eq!(clean("checksum 5f99e97095a11265efc9fe5020d258025bdc21b3 bad"), "checksum *** bad");
        let shown = "com.easemob.im.exceptions.EasemobSecurityException c9e6c306-804f-4ec3-b8f0-573778829419";
        assert_eq!(clean(shown), shown);
    }

    #[test]
    fn a_text_is_one_short_line() {
        assert_eq!(clean(" <html>\r\n\t<b>502</b>\u{0}\n "), "<html> <b>502</b>");
        let long = clean(&"环信 ".repeat(1_000));
        assert!(long.len() <= TEXT_BYTES && long.ends_with('…'), "{}", long.len());
        let unbroken = clean(&"é".repeat(2_000));
        assert!(unbroken.len() <= TEXT_BYTES && unbroken.len() > TEXT_BYTES - 8, "{}", unbroken.len());
    }
}
