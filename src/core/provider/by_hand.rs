//! A call as a person makes it in a POSIX shell, with a place for the secret: `explain --format curl`.
//!
//! Text only. The secret itself is never in it.

/// What stands where a secret is to be put in.
pub const MASK: &str = "***";

/// The lines around a call that make what is secret in it, once the secret is put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByHand {
    /// Lines that stand once for an account: the secret as `'***'`, and what follows from it alone.
    pub once: String,
    /// Lines that stand before each call.
    pub each: String,
    /// Headers by their names, whose values the shell puts in: they go between double quotes.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// A word for a POSIX shell, whatever is in it.
pub fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_every_text_as_it_is() {
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
    }
}
