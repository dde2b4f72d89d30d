//! TLS in the running program: built from the configuration, kept fresh, and reloaded. Knows no
//! certificate's content.

use std::sync::Arc;

use tidings_frontends::http::acme::Acme;
use tidings_frontends::http::{Entrance, Loaded, Shutdown, Tls};
use tokio::task::JoinSet;

use super::AppProblem;
use crate::config::TlsOptions;

/// What listeners with TLS share.
pub(super) struct Encryption {
    tls: Arc<Tls>,
    acme: Option<Arc<Acme>>,
}

impl Encryption {
    /// `None` when nothing listens with TLS.
    pub(super) fn build(options: &TlsOptions) -> Result<Option<Encryption>, AppProblem> {
        if options.listen.is_empty() {
            return Ok(None);
        }
        let loaded = Loaded::read(options.certificates.clone())?;
        let tls = Tls::new(loaded, options.acme.is_some())?;
        let acme = options.acme.clone().map(|acme| Acme::open(acme, Arc::clone(&tls)));
        Ok(Some(Encryption { tls, acme: acme.transpose()? }))
    }

    pub(super) fn entrance(&self) -> Entrance {
        Entrance::Tls(Arc::clone(&self.tls))
    }

    /// Looks after certificates until the shutdown begins.
    pub(super) fn keep(&self, tasks: &mut JoinSet<()>, shutdown: &Shutdown) {
        tasks.spawn(Arc::clone(&self.tls).watch(shutdown.clone()));
        if let Some(acme) = &self.acme {
            tasks.spawn(Arc::clone(acme).run(shutdown.clone()));
        }
    }

    /// Serves these certificates, and asks again for what has not come.
    pub(super) fn reload(&self, loaded: Loaded) {
        self.tls.install(loaded);
        if let Some(acme) = &self.acme {
            acme.hurry();
        }
    }
}
