//! `lock`, `steal`, `unlock`.

use ecow::EcoString;
use nonnet_schema::{ErrorKind, OvsdbError, json};
use serde_json::Value;

use super::{Answer, Call, params_json};
use crate::limits::{LOCK_NAME_BYTES_MAX, LOCKS_PER_SESSION_MAX};
use crate::lock::Mode;
use crate::server::Server;

impl Server {
    pub(super) fn lock(&mut self, call: Call<'_>, mode: Mode) -> Answer {
        let name = lock_name(call, if mode == Mode::Steal { "steal" } else { "lock" })?;
        if self.locks.request_count(call.session) >= LOCKS_PER_SESSION_MAX {
            let text = format!("a session may hold or wait for {LOCKS_PER_SESSION_MAX} locks");
            return Err(OvsdbError::new(ErrorKind::ResourcesExhausted(text)).into());
        }
        if name.len() > LOCK_NAME_BYTES_MAX {
            let text = format!("a lock's name may have {LOCK_NAME_BYTES_MAX} bytes, not {}", name.len());
            return Err(OvsdbError::new(ErrorKind::ResourcesExhausted(text)).into());
        }
        let (locked, notice) = self
            .locks
            .acquire(call.session, &name, mode)
            .map_err(|kind| OvsdbError::in_json(kind, &params_json(call.params)))?;
        if let Some(notice) = notice {
            self.notify(&notice);
        }
        Ok(format!("{{\"locked\":{locked}}}"))
    }

    pub(super) fn unlock(&mut self, call: Call<'_>) -> Answer {
        let name = lock_name(call, "unlock")?;
        let released = self.locks.release(call.session, &name);
        if let Some(notice) = released.map_err(|kind| OvsdbError::in_json(kind, &params_json(call.params)))? {
            self.notify(&notice);
        }
        Ok("{}".to_owned())
    }
}

fn lock_name(call: Call<'_>, method: &'static str) -> Result<EcoString, OvsdbError> {
    match call.params {
        [Value::String(name)] if json::is_id(name) => Ok(name.into()),
        params => Err(OvsdbError::in_json(ErrorKind::LockParams(method), &params_json(params))),
    }
}
