//! `convert`: a new schema for a database (ovsdb-server(7) 4.1.17).
//!
//! The new schema is in force at once, and nobody is told before its record is stored: then the monitors and waiting transactions of
//! sessions that called `set_db_change_aware` are canceled, all others are closed, and `_Server` shows the new schema. Where the record
//! cannot be stored nothing of it has happened, but for an error to who asked.

use ecow::EcoString;
use nonnet_chain::Request;
use nonnet_schema::{
    DatabaseSchema, ErrorKind, OvsdbError, ReplyError, error_reply_text, json, notification_text, reply_text,
};

use super::transact::author_of;
use super::{Call, access_of, params_json};
use crate::command::{Command, Outgoing};
use crate::monitor::Monitor;
use crate::now::Now;
use crate::peer::SessionId;
use crate::served::Served;
use crate::server::Server;
use crate::session::{Gate, Matter};

impl Server {
    pub(super) fn convert(&mut self, call: Call<'_>, now: Now) {
        if let Err(error) = self.start_conversion(call, now) {
            self.reply(call.session, call.id, Err(error.into()));
        }
    }

    fn start_conversion(&mut self, call: Call<'_>, now: Now) -> Result<(), OvsdbError> {
        let database = EcoString::from(self.database_param(call.method, call.params)?);
        let access = access_of(self.sessions.get(&call.session));
        if !access.role.is_empty() {
            let what = format!("\"convert\" of database {database} (only the root role may convert databases)");
            return Err(access.prohibits(what));
        }
        let read_only = || OvsdbError::new(ErrorKind::ConvertReadOnly(database.clone()));
        let is_followed = |served: &Served| served.is_backup || served.is_relayed();
        if self.is_read_only(call.session)
            || database.starts_with('_')
            || self.databases.get(&database).is_some_and(is_followed)
        {
            return Err(read_only());
        }
        let [_, schema] = call.params else {
            let kind = ErrorKind::Params("array expected".into());
            return Err(OvsdbError::in_json(kind, &params_json(call.params)));
        };
        let schema = DatabaseSchema::parse(schema)?;
        if schema.name != database {
            return Err(ErrorKind::SchemaName {
                schema: schema.name,
                database,
            }
            .into());
        }
        self.settle_log_reads(&database);
        let served = self.databases.get(&database).ok_or_else(read_only)?;
        let conversion = served.under(schema, &mut self.entropy)?;
        let author = self.sessions.get(&call.session).map(|session| author_of(&session.peer));
        let request = Request {
            id: json::to_text(call.id).into(),
            operations: 1,
            txn_uid: self.entropy.uuid(),
            durable: true,
            ..Request::default()
        };
        let served = self.databases.get_mut(&database).ok_or_else(read_only)?;
        let record = served
            .convert(conversion, &author.unwrap_or_default(), &request, now)
            .map_err(|error| OvsdbError::new(ErrorKind::ResourcesExhausted(error.to_string())))?;
        let (record, gate) = (record.ok_or_else(read_only)?, served.gate());
        self.append(database.clone(), record, true);
        self.tell_of_conversion(&database, gate.as_ref(), call);
        self.commands.push(Command::Converted { database });
        Ok(())
    }

    /// Queues what each session gets to know once the conversion is stored.
    fn tell_of_conversion(&mut self, database: &str, gate: Option<&Gate>, call: Call<'_>) {
        let mut ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        // The same events give the same commands, in the same order.
        ids.sort_unstable();
        let mut monitors: Vec<(SessionId, Monitor)> = Vec::new();
        for id in &ids {
            if let Some(session) = self.sessions.get_mut(id) {
                let gone = session.monitors.extract_if(.., |monitor| monitor.database == database);
                let gone: Vec<Monitor> = gone.collect();
                let canceled: &[Monitor] = if session.aware { &gone } else { &[] };
                for monitor in canceled {
                    let text = notification_text("monitor_canceled", &format!("[{}]", monitor.id_text));
                    session.push(gate.cloned(), Matter::Converted, Outgoing::Text(text));
                }
                monitors.extend(gone.into_iter().map(|monitor| (*id, monitor)));
            }
        }
        let reply = Outgoing::Text(reply_text(call.id, "{}"));
        self.push(call.session, gate.cloned(), Matter::Reply(call.id.clone()), reply);
        if let Some(served) = self.databases.get_mut(database) {
            served.keep_monitors(monitors);
            for parked in served.previously_parked() {
                if let Some(session) = self.sessions.get_mut(&parked.session).filter(|session| session.aware) {
                    let text = error_reply_text(&parked.id, &ReplyError::Text("canceled"));
                    session.push(gate.cloned(), Matter::Canceled, Outgoing::Text(text));
                }
            }
        }
        for id in ids {
            if let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.aware) {
                session.end_after(gate.cloned());
            }
            self.flush(id);
        }
    }

    /// Answers the monitors that wait for the log of a database with everything, at once: what the log says is of rows under the old schema.
    fn settle_log_reads(&mut self, database: &str) {
        let reads = self.log_reads.keys().filter(|(read, _)| read == database);
        let reads: Vec<_> = reads.cloned().collect();
        for (database, transaction) in reads {
            self.log_read(database, transaction, None);
        }
    }
}
