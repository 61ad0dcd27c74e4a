//! Queues that shape what leaves a link, and filters that mirror what passes it.

use super::Model;
use crate::mirror::{Change, Observation, Queue};
use crate::object::{TrafficChange, TrafficSet};
use crate::plan::Refusal;

impl Model {
    pub(super) fn traffic(&mut self, set: &TrafficSet) -> Result<Vec<Observation>, Refusal> {
        let index = self.find(&set.link)?;
        let change = match &set.change {
            TrafficChange::Shape { set: shape, .. } => Change::Queue(index, shape.map(Queue::Shape)),
            TrafficChange::Mirror { hook, set: to, .. } => {
                let to = to.as_ref().map(|to| self.find(to)).transpose()?;
                Change::Mirror(index, *hook, to)
            }
        };
        let space = self.namespaces.entry(set.link.namespace).or_default();
        match change {
            Change::Queue(index, Some(Queue::Shape(shape))) => {
                space.queues.insert(index, shape);
            }
            Change::Queue(index, _) => {
                space.queues.remove(&index);
            }
            Change::Mirror(index, hook, Some(to)) => {
                space.mirrors.insert((index, hook), to);
            }
            Change::Mirror(index, hook, None) => {
                space.mirrors.remove(&(index, hook));
            }
            _ => {}
        }
        Ok(vec![Observation {
            namespace: set.link.namespace,
            change,
        }])
    }
}
