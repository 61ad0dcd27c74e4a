//! LXC containers: a row that is attached to a bridge keeps a row in `ports`, one with a template wants the container made and kept.
//!
//! A row that only attaches a container that somebody else made speaks through its port; of any other the port is one part of what it says.

use ecow::{EcoString, eco_format};
use nonnet_engine::Row;
use nonnet_schema::Atom;

pub(crate) mod lifecycle;

use crate::fault::Fault;
use crate::link::check_name;
use crate::name::LinkName;
use crate::object::{Mesh, NetnsRef, Object};
use crate::reconcile::Desired;
use crate::tables::{View, text};

super::columns!("lxc"; id, veth, bridge, running, properties, status, error);

pub(crate) const READ_BY_REFERRERS: &[&str] = &["id", "bridge", "running", "properties"];
pub(crate) const READ_BY_TARGETS: &[&str] = &[];

/// Keys of `properties` that have an effect on how it is attached; [`lifecycle::PROPERTIES`] are the others.
const EFFECTIVE: [&str; 7] = ["gateway", "ipv4", "ipv6", "mac", "mtu", "network", "network_type"];

/// The network type of containers in a mesh network.
const NETMAKER: &str = "netmaker";

/// How a container is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Not at all.
    None,
    /// In a way that is not supported, for this reason.
    Unsupported(EcoString),
    /// By a port.
    Port(Attached),
}

/// The port that a container's row keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The link's name on the host.
    pub name: LinkName,
    /// The name of the bridge; empty where the network says it.
    pub bridge: EcoString,
    /// The name of the network, if any.
    pub network: Option<EcoString>,
    /// The addresses, one per family at most.
    pub addresses: Vec<EcoString>,
    pub gateway: Option<EcoString>,
    pub mac: Option<EcoString>,
    pub mtu: Option<i64>,
}

pub(crate) fn wanted(view: &View<'_>, row: &Row) -> Desired {
    let columns = &view.tables.lxc;
    let objects = match objects(columns, row) {
        Ok(objects) => objects,
        Err(fault) => return Desired::Invalid(fault.to_string().into()),
    };
    match attachment(columns, row) {
        Ok(Attachment::Port(_)) if objects.is_empty() => Desired::Gone,
        Ok(Attachment::Port(_) | Attachment::None) => Desired::Objects(objects),
        Ok(Attachment::Unsupported(why)) => Desired::Invalid(why),
        Err(fault) => Desired::Invalid(fault.to_string().into()),
    }
}

/// What the row itself wants: the container, and that it is in a mesh network.
///
/// # Errors
/// The first property that is wrong.
pub(crate) fn objects(columns: &Columns, row: &Row) -> Result<Vec<Object>, Fault> {
    let container = lifecycle::container(columns, row)?;
    let mut objects: Vec<Object> = Vec::new();
    if is_in_mesh(columns, row) {
        let token = lifecycle::token_variable(columns, row)?;
        let link = match attachment(columns, row)? {
            Attachment::Port(attached) => Some(attached.name),
            Attachment::None | Attachment::Unsupported(_) => None,
        };
        let id: EcoString = id(columns, row).into();
        let mesh = Mesh {
            netns: NetnsRef::Lxc { id: id.clone() },
            id,
            token,
            link,
            rests: container.as_ref().is_some_and(|container| !container.running),
        };
        objects.push(Object::Mesh(mesh));
    } else if row.get(columns.properties).get_str("netmaker_token_env").is_some() {
        lifecycle::token_variable(columns, row)?;
    }
    objects.extend(container.map(|container| Object::Container(Box::new(container))));
    Ok(objects)
}

/// Whether the row tells of more than its port: of the container itself, or of a mesh network.
pub(crate) fn speaks(columns: &Columns, row: &Row) -> bool {
    objects(columns, row).is_ok_and(|objects| !objects.is_empty())
}

/// Whether the row says that its container does not run, so that there is nothing to attach.
pub(crate) fn stays_stopped(columns: &Columns, row: &Row) -> bool {
    matches!(lifecycle::container(columns, row), Ok(Some(container)) if !container.running)
}

fn is_in_mesh(columns: &Columns, row: &Row) -> bool {
    row.get(columns.properties).get_str("network_type") == Some(NETMAKER)
}

/// What people call the row.
pub(crate) fn id<'a>(columns: &Columns, row: &'a Row) -> &'a str {
    text(row, columns.id)
}

/// How the row wants its container attached.
///
/// # Errors
/// The first column that is wrong.
pub(crate) fn attachment(columns: &Columns, row: &Row) -> Result<Attachment, Fault> {
    let (id, bridge) = (id(columns, row), text(row, columns.bridge));
    let fault = |column: &str, why: &dyn std::fmt::Display| Fault::new(Columns::NAME, id, column, why);
    check_id(id).map_err(|why| fault("id", &why))?;
    let name = link_name(columns, row)?;
    let property = |key: &str| row.get(columns.properties).get_str(key);
    match property("network_type") {
        Some("none") => return Ok(Attachment::None),
        // The bridge, where there is one, is how the mesh's server is reached.
        None | Some(NETMAKER) if bridge.is_empty() && property("network").is_none() => return Ok(Attachment::None),
        Some("bridge" | NETMAKER) | None => {}
        Some(other) => {
            let text = eco_format!(
                "properties:network_type \"{other}\" is not supported; supported are \"bridge\", \"netmaker\" and \"none\""
            );
            return Ok(Attachment::Unsupported(text));
        }
    }
    let network = property("network");
    if bridge.is_empty() && network.is_none() {
        return Err(fault(
            "bridge",
            &"a network of type \"bridge\" needs the name of a bridge",
        ));
    }
    let mtu = property("mtu").map(str::parse::<u16>).transpose();
    let mtu = mtu.ok().filter(|mtu| mtu.is_none_or(|mtu| mtu >= 68));
    let mtu = mtu.ok_or_else(|| fault("properties:mtu", &"an MTU is a number from 68 to 65535"))?;
    Ok(Attachment::Port(Attached {
        name,
        bridge: bridge.into(),
        network: network.map(Into::into),
        addresses: ["ipv4", "ipv6"]
            .into_iter()
            .filter_map(property)
            .map(Into::into)
            .collect(),
        gateway: property("gateway").map(Into::into),
        mac: property("mac").map(Into::into),
        mtu: mtu.map(i64::from),
    }))
}

/// The link's name on the host: the `veth` column, else `vi` and the id.
///
/// # Errors
/// Why no link can have it.
pub(crate) fn link_name(columns: &Columns, row: &Row) -> Result<LinkName, Fault> {
    let (id, veth) = (id(columns, row), text(row, columns.veth));
    if veth.is_empty() {
        let name = eco_format!("vi{id}");
        check_name(&name).map_err(|error| Fault::new(Columns::NAME, id, "id", format!("as veth is empty: {error}")))
    } else {
        check_name(veth).map_err(|error| Fault::new(Columns::NAME, id, "veth", error))
    }
}

/// The keys of `properties` that nothing acts on.
pub(crate) fn ignored(columns: &Columns, row: &Row) -> Vec<EcoString> {
    let keys = row.get(columns.properties).keys().filter_map(Atom::as_str);
    let managed = matches!(lifecycle::container(columns, row), Ok(Some(_)));
    let effective = |key: &&str| match *key {
        "managed" | "protection" => true,
        "netmaker_token_env" => is_in_mesh(columns, row),
        other => EFFECTIVE.contains(key) || (managed && lifecycle::PROPERTIES.contains(&other)),
    };
    keys.filter(|key| !effective(key)).map(Into::into).collect()
}

/// An id is the name of a container and of a namespace: one part of a path.
fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("a container must have an id".to_owned());
    }
    let refused = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if id == "." || id == ".." || id.contains(refused) {
        return Err(format!("\"{id}\" cannot be the name of a container"));
    }
    Ok(())
}
