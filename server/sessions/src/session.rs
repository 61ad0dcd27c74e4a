//! One session: what it is owed, in order.
//!
//! Whatever is sent waits in the session's queue until the state that it shows is stored: a client never learns of a commit that a crash
//! could undo, and sees the updates of a commit before its reply.

use std::collections::VecDeque;

use bytes::Bytes;
use ecow::EcoString;
use nonnet_schema::{ErrorKind, OvsdbError, ReplyError, error_reply_text};
use serde_json::Value;

use crate::command::{Command, Outgoing};
use crate::monitor::Monitor;
use crate::peer::{Peer, SessionId};

/// The state of a database that something sent depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) database: EcoString,
    pub(crate) sequence: u64,
}

/// Something on its way to a session.
#[derive(Debug)]
struct Queued {
    /// None for what depends on nothing stored.
    gate: Option<Gate>,
    matter: Matter,
    payload: Outgoing,
}

/// What a queued text is, should its gate never open.
#[derive(Clone, Debug)]
pub(crate) enum Matter {
    /// The reply to the request of that id.
    Reply(Value),
    /// The same where a monitor starts from it: an error instead would leave the client with a monitor that it does not know of.
    Initial(Value),
    /// The update of one commit.
    Update,
    /// An update of several commits, some of which may be stored already.
    MergedUpdate,
    /// Something that does not depend on a database.
    Notice,
    /// What a conversion cancels.
    Converted,
    /// The reply to a waiting transaction that a conversion cancels.
    Canceled,
    /// The end of a session that could not know of a conversion.
    End,
}

/// What may still come from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Anything.
    Open,
    /// Nothing: it has closed its half of the stream.
    HalfClosed,
    /// Nothing that has a meaning.
    Malformed,
    /// Nothing: it was told to close, and is sent nothing more.
    Ended,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) peer: Peer,
    /// `set_db_change_aware` (ovsdb-server(7) 4.1.16).
    pub(crate) aware: bool,
    /// Some request ended in an end of line; so does everything sent from then on.
    newline: bool,
    pub(crate) congested: bool,
    pub(crate) input: Input,
    pub(crate) monitors: Vec<Monitor>,
    /// Transactions that wait for a condition.
    pub(crate) parked: usize,
    queue: VecDeque<Queued>,
    /// What it sent while its end is queued: to be answered only should that not come.
    held: Vec<(Value, bool)>,
}

impl Session {
    pub(crate) fn new(id: SessionId, peer: Peer) -> Self {
        Self {
            id,
            peer,
            aware: false,
            newline: false,
            congested: false,
            input: Input::Open,
            monitors: Vec::new(),
            parked: 0,
            queue: VecDeque::new(),
            held: Vec::new(),
        }
    }

    /// Notes how the client ends its requests.
    pub(crate) fn saw_request(&mut self, newline: bool) {
        self.newline |= newline;
    }

    /// Queues a payload behind what is owed already.
    pub(crate) fn push(&mut self, gate: Option<Gate>, matter: Matter, payload: Outgoing) {
        let payload = if self.newline { payload.with_newline() } else { payload };
        self.queue.push_back(Queued { gate, matter, payload });
    }

    /// Closes the session once what is owed so far has been sent and the gate is open.
    pub(crate) fn end_after(&mut self, gate: Option<Gate>) {
        let payload = Outgoing::Text(String::new());
        self.queue.push_back(Queued {
            gate,
            matter: Matter::End,
            payload,
        });
    }

    /// Keeps a message of a session whose end is queued: what it asks for must not happen, since it would never be answered. Gives it
    /// back otherwise.
    pub(crate) fn hold(&mut self, message: Value, newline: bool) -> Option<Value> {
        let is_ending = self.queue.iter().any(|queued| matches!(queued.matter, Matter::End));
        if !is_ending {
            return Some(message);
        }
        self.held.push((message, newline));
        None
    }

    /// What was held of a session that goes on after all.
    pub(crate) fn take_held(&mut self) -> Vec<(Value, bool)> {
        std::mem::take(&mut self.held)
    }

    /// Queues the update of one commit, a text of [`Outgoing::shared_line`].
    pub(crate) fn push_line(&mut self, gate: Option<Gate>, line: &Bytes) {
        let payload = Outgoing::of_line(line, self.newline);
        self.queue.push_back(Queued {
            gate,
            matter: Matter::Update,
            payload,
        });
    }

    /// Queues a text that bears its own end of line.
    pub(crate) fn queue_raw(&mut self, payload: Outgoing) {
        self.queue.push_back(Queued {
            gate: None,
            matter: Matter::Notice,
            payload,
        });
    }

    /// Whether anything waits for a gate.
    pub(crate) fn owes(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends what may be sent, in order.
    pub(crate) fn flush(&mut self, is_open: &dyn Fn(&Gate) -> bool, commands: &mut Vec<Command>) {
        while let Some(queued) = self
            .queue
            .pop_front_if(|queued| queued.gate.as_ref().is_none_or(is_open))
        {
            if self.input == Input::Ended {
                continue;
            }
            if matches!(queued.matter, Matter::End) {
                self.input = Input::Ended;
                self.held = Vec::new();
                commands.push(Command::Close { session: self.id });
                continue;
            }
            commands.push(Command::Send {
                session: self.id,
                payload: queued.payload,
            });
            if matches!(queued.matter, Matter::Canceled) {
                self.parked = self.parked.saturating_sub(1);
            }
            if matches!(queued.matter, Matter::Reply(_) | Matter::Initial(_) | Matter::Canceled) {
                commands.push(Command::Finished { session: self.id });
            }
        }
        if self.queue.is_empty() {
            // What is idle holds nothing.
            self.queue = VecDeque::new();
        }
    }

    /// True where the session has ended and nothing more is owed.
    pub(crate) fn is_complete(&self) -> bool {
        let has_waiting = self.monitors.iter().any(|monitor| monitor.waits_as.is_some());
        matches!(self.input, Input::HalfClosed | Input::Malformed)
            && self.parked == 0
            && self.queue.is_empty()
            && !has_waiting
    }

    /// What was queued on a state that was undone goes: updates vanish, replies become errors. False where the client's view cannot be
    /// mended, so that it must connect anew: it would be told of the undoing of what it was never told.
    pub(crate) fn undo_from(&mut self, failed: &Gate, reason: &EcoString) -> bool {
        let mut sound = true;
        let depends = |gate: &Gate| gate.database == failed.database && gate.sequence >= failed.sequence;
        for mut queued in std::mem::take(&mut self.queue) {
            if queued.gate.as_ref().is_some_and(depends) {
                sound &= match queued.matter {
                    Matter::MergedUpdate | Matter::Initial(_) => false,
                    Matter::Update => !self.congested,
                    Matter::Reply(_) | Matter::Notice | Matter::Converted | Matter::Canceled | Matter::End => true,
                };
                let (Matter::Reply(id) | Matter::Initial(id)) = &queued.matter else {
                    continue;
                };
                let (subject, io_error) = (failed.database.clone(), reason.clone());
                let error = OvsdbError::new(ErrorKind::WriteFailed { subject, io_error });
                let text = Outgoing::Text(error_reply_text(id, &ReplyError::Object(error)));
                queued.payload = if self.newline { text.with_newline() } else { text };
                queued.gate = None;
            }
            self.queue.push_back(queued);
        }
        sound
    }
}
