//! Links that somebody else made and a row has taken over, such as a bridge of the administrator or a network card.
//!
//! The link's alias says so, and how it was before: what is remembered cannot be lost apart from the link. Its group stays as it was, so that
//! what marks links for deletion never marks one of these.

use std::fmt;

use ecow::{EcoString, eco_format};

use super::{Moved, Owner};
use crate::limits::ALIAS_BYTES_MAX;

/// A link that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The row that took it.
    pub owner: Owner,
    /// The group that links of the row's database have.
    pub group: u32,
    /// How it was before.
    pub former: Former,
    /// Where the addresses are that it had.
    pub moved: Option<Moved>,
}

/// How a link was before it was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// Whether it was set up.
    pub up: bool,
    /// The name of the link that it was a port of.
    pub master: Option<EcoString>,
    /// Its alias.
    pub alias: EcoString,
}

impl Taken {
    /// What an alias says; none for every other alias.
    pub fn from_alias(alias: &str) -> Option<Self> {
        let (owner, rest) = alias.split_once(" taken ")?;
        let owner = Owner::from_alias(owner)?;
        let mut words = rest.splitn(4, ' ');
        let group = u32::from_str_radix(words.next()?, 16).ok()?;
        let (up, moved) = state(words.next()?)?;
        let master = Some(words.next()?).filter(|master| *master != "-");
        let former = Former {
            up,
            master: master.map(Into::into),
            alias: words.next()?.into(),
        };
        Some(Self {
            owner,
            group,
            former,
            moved,
        })
    }

    /// The alias that says it. One that would be longer than the kernel takes loses the end of what was there before.
    pub fn alias(&self) -> EcoString {
        let text = eco_format!("{self}");
        let end = (0..=ALIAS_BYTES_MAX.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.get(..end.unwrap_or(0)).unwrap_or_default().into()
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Former { up, master, alias } = &self.former;
        let (up, master) = (if *up { "up" } else { "down" }, master.as_deref().unwrap_or("-"));
        write!(f, "{} taken {:x} {up}", self.owner.alias(), self.group)?;
        if let Some(Moved { to, trial }) = &self.moved {
            write!(f, ",{trial:x},{to}")?;
        }
        write!(f, " {master} {alias}")
    }
}

/// Whether a link was up, and where its addresses went: `up` or `up,CHECKPOINT,BRIDGE`.
fn state(word: &str) -> Option<(bool, Option<Moved>)> {
    let (up, moved) = match word.split_once(',') {
        Some((up, moved)) => (up, Some(moved)),
        None => (word, None),
    };
    let up = match up {
        "up" => true,
        "down" => false,
        _ => return None,
    };
    let Some(moved) = moved else { return Some((up, None)) };
    let (trial, to) = moved.split_once(',')?;
    let trial = u32::from_str_radix(trial, 16).ok()?;
    Some((up, Some(Moved { to: to.into(), trial })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_brings_back_what_was_before() {
        let taken = Taken {
            owner: Owner {
                table: "bridges".into(),
                uuid: 7,
            },
            group: 0x4000_1234,
            former: Former {
                up: true,
                master: Some("br0".into()),
                alias: "to the office, floor 3".into(),
            },
            moved: Some(Moved {
                to: "br,1".into(),
                trial: 0x1f,
            }),
        };
        assert_eq!(Taken::from_alias(&taken.alias()), Some(taken.clone()));
        assert_eq!(Taken::from_alias(&taken.owner.alias()), None);
        let bare = Taken {
            former: Former::default(),
            moved: None,
            ..taken
        };
        assert_eq!(Taken::from_alias(&bare.alias()), Some(bare.clone()));
        assert_eq!(Owner::from_alias(&bare.alias()), None);
    }
}
