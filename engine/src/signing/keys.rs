//! A backend with a count of who holds which key.
//!
//! Shards that share a backend load the same keys, and a reload loads a key again that stays: the
//! backend loads it once, and forgets it when the last holder does.

use std::collections::HashMap;
use std::sync::Arc;

use postern_signer::batch::{BatchSigner, KeyId};
use postern_signer::key::RsaPrivateKey;

use super::KeyRefusal;

/// A backend and the holders of its keys.
pub(super) struct Keyed {
    pub(super) signer: Box<dyn BatchSigner>,
    holders: HashMap<KeyId, usize>,
}

impl Keyed {
    /// A backend without keys.
    pub(super) fn new(signer: Box<dyn BatchSigner>) -> Self {
        Self { signer, holders: HashMap::new() }
    }

    /// One more holder of these keys.
    ///
    /// # Errors
    /// [`KeyRefusal`]; nothing has changed then.
    pub(super) fn load(&mut self, keys: &[(KeyId, Arc<RsaPrivateKey>)]) -> Result<(), KeyRefusal> {
        for (index, (id, key)) in keys.iter().enumerate() {
            if let Some(count) = self.holders.get_mut(id) {
                *count += 1;
            } else if let Err(cause) = self.signer.load(*id, key) {
                self.unload(keys[..index].iter().map(|(id, _)| id));
                return Err(KeyRefusal { key: *id, cause });
            } else {
                self.holders.insert(*id, 1);
            }
        }
        Ok(())
    }

    /// One holder less.
    pub(super) fn unload<'a>(&mut self, ids: impl IntoIterator<Item = &'a KeyId>) {
        for id in ids {
            let Some(count) = self.holders.get_mut(id) else { continue };
            *count -= 1;
            if *count == 0 {
                self.holders.remove(id);
                self.signer.unload(*id);
            }
        }
    }
}
