//! The admin token that is made for one run when the config names none.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use secrecy::SecretString;
use uuid::Uuid;

/// A token in a file that only its owner can read. Dropping it removes the file.
#[derive(Debug)]
pub struct MadeToken {
    /// The token: 244 random bits.
    pub token: SecretString,
    path: PathBuf,
}

impl MadeToken {
    /// Makes one in the system's folder for temporary files.
    pub fn make() -> anyhow::Result<Self> {
        Self::make_in(&std::env::temp_dir())
    }

    fn make_in(folder: &Path) -> anyhow::Result<Self> {
        let text = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        // A name that was never used: nobody can have put a file or a link in its place.
        let path = folder.join(format!("roomcast-admin-{}.token", Uuid::new_v4().simple()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&path).and_then(|mut file| writeln!(file, "{text}"));
        written.with_context(|| {
            format!(
                "the admin token cannot be written to {}; name one with `admin.token_file`",
                path.display()
            )
        })?;
        Ok(Self { token: text.into(), path })
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MadeToken {
    fn drop(&mut self) {
        // A file that somebody has removed already is gone as it should be.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_token_stands_in_a_file_of_its_owner_and_goes_with_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let made = MadeToken::make_in(folder.path()).unwrap();
        let other = MadeToken::make_in(folder.path()).unwrap();
        assert_ne!(made.token.expose_secret(), other.token.expose_secret());
        assert_eq!(std::fs::read_to_string(made.path()).unwrap().trim(), made.token.expose_secret());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(made.path()).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!format!("{made:?}").contains(made.token.expose_secret()));
        let path = made.path().to_owned();
        drop(made);
        assert!(!path.exists());
    }
}
