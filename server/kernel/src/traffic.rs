//! Between the shape and the copies of a link's traffic and the messages of rtnetlink's traffic control.
//!
//! Takes changes, gives messages, and the other way round. Pure; it never sends. What is ours is known by its number: the handle of a queue, the priority of a
//! filter. A filter hangs on the queue `clsact`, which may be somebody else's as well and so has no mark.

use ecow::EcoString;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NlaBuffer, NlasIterator};
use nonnet_hooks::mirror::{Change, Queue};
use nonnet_hooks::object::{Hook, Shape};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcAttribute, TcFilterU32Option, TcHandle,
    TcMessage, TcOption,
};

use crate::wire::Request;

/// The mark of what is ours: the major number of a queue's handle, and the priority of a filter ("nn").
const MARK: u16 = 0x6e6e;

/// `ETH_P_ALL` of `linux/if_ether.h`, in the byte order of the wire.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

const TCA_OPTIONS: u16 = 2;
/// Of `linux/pkt_sched.h`.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;
/// Of `linux/pkt_cls.h`.
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TC_ACT_PIPE: i32 = 3;
/// Of `linux/pkt_cls.h` and `linux/tc_act/tc_mirred.h`.
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_MIRROR: i32 = 2;

/// Bytes of `struct tc_tbf_qopt`, and where in it the rate and the limit are.
const QOPT_BYTES: usize = 36;
const QOPT_RATE: usize = 8;
const QOPT_LIMIT: usize = 24;

/// Asks for the root queues of all links.
pub(crate) fn queues() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default())
}

/// Asks for the filters at a hook of a link.
pub(crate) fn filters(index: u32, hook: Hook) -> RouteNetlinkMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = parent(hook);
    RouteNetlinkMessage::GetTrafficFilter(message)
}

/// Makes or changes the shape of what leaves a link.
pub(crate) fn shape_set(index: u32, shape: Shape) -> Request {
    let mut message = queue(index);
    let bytes_per_second = u32::try_from(shape.rate).unwrap_or(u32::MAX);
    let mut parameters = vec![0; QOPT_BYTES];
    put(&mut parameters, 1, &[TC_LINKLAYER_ETHERNET]);
    put(&mut parameters, QOPT_RATE, &bytes_per_second.to_ne_bytes());
    put(&mut parameters, QOPT_LIMIT, &shape.limit.to_ne_bytes());
    let mut options = attribute(TCA_TBF_PARMS, &parameters);
    if u64::from(bytes_per_second) != shape.rate || bytes_per_second == u32::MAX {
        options.extend(attribute(TCA_TBF_RATE64, &shape.rate.to_ne_bytes()));
    }
    options.extend(attribute(TCA_TBF_BURST, &shape.burst().to_ne_bytes()));
    message.attributes.push(TcAttribute::Kind("tbf".to_owned()));
    message.attributes.push(raw(options));
    // Ours is changed, the kernel's default gives way; somebody else's would only to NLM_F_REPLACE, and it may have come just now.
    (RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE)
}

/// Takes the shape of what leaves a link away.
pub(crate) fn shape_del(index: u32) -> Request {
    (RouteNetlinkMessage::DelQueueDiscipline(queue(index)), 0)
}

/// Makes the queue on which filters hang, unless it is there.
pub(crate) fn hooks_add(index: u32) -> Request {
    let mut message = hooks(index);
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    (RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE)
}

/// Takes it away, with all filters.
pub(crate) fn hooks_del(index: u32) -> Request {
    (RouteNetlinkMessage::DelQueueDiscipline(hooks(index)), 0)
}

/// Copies what is seen at a hook of a link to the link `to`.
pub(crate) fn mirror_add(index: u32, hook: Hook, to: u32) -> Request {
    let mut message = filter(index, hook);
    // Nothing is compared, so everything fits: one key without a bit in its mask.
    let mut selector = vec![0; 16 + 16];
    put(&mut selector, 0, &[TC_U32_TERMINAL]);
    put(&mut selector, 2, &[1]);
    // struct tc_mirred: index, capabilities, action, two counts, what to do, where to.
    let mut mirred = vec![0; 28];
    put(&mut mirred, 8, &TC_ACT_PIPE.to_ne_bytes());
    put(&mut mirred, 20, &TCA_EGRESS_MIRROR.to_ne_bytes());
    put(&mut mirred, 24, &to.to_ne_bytes());
    let mut action = attribute(TCA_ACT_KIND, b"mirred\0");
    action.extend(attribute(TCA_ACT_OPTIONS, &attribute(TCA_MIRRED_PARMS, &mirred)));
    let mut options = attribute(TCA_U32_SEL, &selector);
    options.extend(attribute(TCA_U32_ACT, &attribute(1, &action)));
    message.attributes.push(TcAttribute::Kind("u32".to_owned()));
    message.attributes.push(raw(options));
    (RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_CREATE)
}

/// Ends a copy.
pub(crate) fn mirror_del(index: u32, hook: Hook) -> Request {
    (RouteNetlinkMessage::DelTrafficFilter(filter(index, hook)), 0)
}

/// Whether a message tells of a queue on which filters hang; gives the link.
pub(crate) fn hooks_of(message: &RouteNetlinkMessage) -> Option<u32> {
    let RouteNetlinkMessage::NewQueueDiscipline(message) = message else {
        return None;
    };
    (message.header.parent == TcHandle::CLSACT).then(|| message.header.index.cast_unsigned())
}

/// What a message of traffic control tells; nothing if it is none.
pub(crate) fn changes(message: &RouteNetlinkMessage) -> Vec<Change> {
    let change = match message {
        RouteNetlinkMessage::NewQueueDiscipline(message) => root(message, true),
        // The filters that hang on it go with it, without a word of their own.
        RouteNetlinkMessage::DelQueueDiscipline(message) if message.header.parent == TcHandle::CLSACT => {
            let index = message.header.index.cast_unsigned();
            let hooks = [Hook::Ingress, Hook::Egress];
            return hooks.map(|hook| Change::Mirror(index, hook, None)).into();
        }
        RouteNetlinkMessage::DelQueueDiscipline(message) => root(message, false),
        RouteNetlinkMessage::NewTrafficFilter(message) => mirror(message, true),
        RouteNetlinkMessage::DelTrafficFilter(message) => mirror(message, false),
        _ => None,
    };
    change.into_iter().collect()
}

fn root(message: &TcMessage, there: bool) -> Option<Change> {
    let index = message.header.index.cast_unsigned();
    if message.header.parent != TcHandle::ROOT {
        return None;
    }
    // The kernel's own have no handle.
    let there = there && message.header.handle != TcHandle::UNSPEC;
    Some(Change::Queue(index, there.then(|| queue_of(message))))
}

fn queue_of(message: &TcMessage) -> Queue {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(EcoString::from(kind.as_str())),
        _ => None,
    });
    let kind = kind.unwrap_or_default();
    if kind == "tbf"
        && message.header.handle.major == MARK
        && let Some(shape) = shape_of(message)
    {
        return Queue::Shape(shape);
    }
    Queue::Other(kind)
}

fn shape_of(message: &TcMessage) -> Option<Shape> {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcOption::Other(nla) => Some(nla),
            _ => None,
        }),
        _ => None,
    })?;
    let options = bytes_of(options);
    let (mut rate, mut limit, mut rate_long) = (0, 0, None);
    for nla in NlasIterator::new(options.as_slice()) {
        let nla: NlaBuffer<&[u8]> = nla.ok()?;
        match nla.kind() {
            TCA_TBF_PARMS => {
                rate = u32::from_ne_bytes(part(nla.value(), QOPT_RATE)?);
                limit = u32::from_ne_bytes(part(nla.value(), QOPT_LIMIT)?);
            }
            TCA_TBF_RATE64 => rate_long = Some(u64::from_ne_bytes(part(nla.value(), 0)?)),
            _ => {}
        }
    }
    Some(Shape {
        rate: rate_long.unwrap_or(u64::from(rate)),
        limit,
    })
}

fn mirror(message: &TcMessage, there: bool) -> Option<Change> {
    let hook = [Hook::Ingress, Hook::Egress]
        .into_iter()
        .find(|hook| parent(*hook) == message.header.parent)?;
    if message.header.info >> 16 != u32::from(MARK) {
        return None;
    }
    let index = message.header.index.cast_unsigned();
    if !there {
        return Some(Change::Mirror(index, hook, None));
    }
    // The filter comes in parts, of which one has the action.
    let to = message.attributes.iter().find_map(target)?;
    Some(Change::Mirror(index, hook, Some(to)))
}

fn target(attribute: &TcAttribute) -> Option<u32> {
    let TcAttribute::Options(options) = attribute else {
        return None;
    };
    let actions = options.iter().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    let attributes = actions.flatten().flat_map(|action: &TcAction| &action.attributes);
    let mut options = attributes.filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.find_map(|options| {
        options.iter().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(to)) => Some(to.ifindex),
            _ => None,
        })
    })
}

fn queue(index: u32) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: MARK, minor: 0 };
    message
}

fn hooks(index: u32) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    message
}

fn filter(index: u32, hook: Hook) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = parent(hook);
    message.header.info = (u32::from(MARK) << 16) | u32::from(ALL_PROTOCOLS);
    message
}

fn parent(hook: Hook) -> TcHandle {
    TcHandle {
        major: TcHandle::CLSACT.major,
        minor: match hook {
            Hook::Ingress => TcHandle::MIN_INGRESS,
            Hook::Egress => TcHandle::MIN_EGRESS,
        },
    }
}

/// Options as they are on the wire, nested attributes one after the other.
fn raw(options: Vec<u8>) -> TcAttribute {
    TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options))
}

fn bytes_of(nla: &DefaultNla) -> Vec<u8> {
    use netlink_packet_core::Nla;
    let mut bytes = vec![0; nla.value_len()];
    nla.emit_value(&mut bytes);
    bytes
}

/// An attribute (`struct nlattr`) with its padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
