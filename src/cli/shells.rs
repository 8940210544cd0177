//! `roomcast completions` and `roomcast man`: what packagers put beside the binary. Both are made of the
//! command line itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::{Cli, Error, output};

/// What `completions` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast completions bash > /usr/share/bash-completion/completions/roomcast
  roomcast completions zsh > \"${fpath[1]}/_roomcast\"
  roomcast completions fish > ~/.config/fish/completions/roomcast.fish
  source <(roomcast completions bash)                    for this shell alone")]
pub struct Completions {
    /// The shell they are for.
    pub shell: clap_complete::Shell,
}

/// What `man` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  roomcast man | man -l -                      read it
  roomcast man --dir /usr/share/man/man1       roomcast.1 and one page for each command")]
pub struct Man {
    /// Writes the page of roomcast and of each command into this folder.
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// Prints the completions of a shell.
///
/// # Errors
/// When stdout cannot be written.
pub fn completions(args: &Completions) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "roomcast", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page, or writes all of them.
///
/// # Errors
/// When stdout or the folder cannot be written.
pub fn man(args: &Man) -> Result<ExitCode, Error> {
    match &args.dir {
        Some(folder) => {
            clap_mangen::generate_to(Cli::command(), folder)
                .with_context(|| format!("the pages cannot be written to {}", folder.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command().disable_help_subcommand(true))
                .render(&mut page)
                .map_err(anyhow::Error::from)?;
            output::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
