//! What a config says of events and letters, beside what runs by it.

use std::sync::Arc;

use super::App;
use crate::core::explain::Looked;
use crate::core::model::AccountId;
use crate::core::provider::Provider;
use crate::core::route::Rules;
use crate::core::route::directory::Directories;
use crate::directory::Directory;
use crate::letters::today::{LookUp, Today};

impl App {
    /// An account's name and provider.
    pub fn account(&self, AccountId(id): AccountId) -> (&str, &dyn Provider) {
        let account = &self.accounts[usize::from(id)];
        (&account.name, &*account.provider)
    }

    /// The directories as far as they are files that can be read: nobody is spoken to.
    pub fn look_up(&self) -> Looked {
        look_up(&self.directories)
    }

    /// What letters are measured by.
    pub fn today(&self) -> Today {
        self.measures()(self.rules.clone())
    }

    /// The same for routes that are named later: those of a reload get their ids when they are taken up.
    pub fn measures(&self) -> impl FnOnce(Arc<Rules>) -> Today + Send + 'static {
        let account = |account: &super::Account| (account.name.clone(), account.provider.clone());
        let accounts = self.accounts.iter().map(account).collect();
        let (sources, directories) = (self.names.sources.clone(), self.directories.clone());
        let look_up: LookUp = Arc::new(move || look_up(&directories));
        move |rules| Today { rules, accounts, sources, look_up }
    }
}

fn look_up(all: &[Directory]) -> Looked {
    let mut looked = Looked { directories: Directories::new(all.len()), ..Looked::default() };
    for directory in all {
        let why = match directory.open() {
            Some(Ok(opened)) => {
                looked.directories.load(directory.view.id, opened.map);
                continue;
            }
            Some(Err(why)) => format!("its file cannot be used: {why}"),
            None => "it is a topic or bucket, which `run` alone reads".to_owned(),
        };
        let name = &directory.view.name;
        looked.closed.insert(directory.view.id, format!("Directory {name:?} was not asked: {why}"));
    }
    looked
}
