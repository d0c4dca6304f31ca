//! Filters of our own in the Windows Filtering Platform (WFP), which the Windows firewall is built on as well.
//!
//! They are persistent: they outlive the agent, and are in force from the start of the system's own filtering service
//! (BFE) on. All of them have one provider and one sublayer, which are made with the first and removed by
//! [`Engine::remove_all`]. What is changed is changed in one transaction.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{
    FWP_E_ALREADY_EXISTS, FWP_E_IN_USE, FWP_E_PROVIDER_NOT_FOUND, FWP_E_SUBLAYER_NOT_FOUND, HANDLE,
};
use windows_sys::Win32::NetworkManagement::WindowsFilteringPlatform::{
    FWP_ACTION_BLOCK, FWP_ACTION_PERMIT, FWP_BYTE_ARRAY16_TYPE, FWP_CONDITION_FLAG_IS_LOOPBACK,
    FWP_CONDITION_VALUE0, FWP_CONDITION_VALUE0_0, FWP_FILTER_ENUM_FLAG_INCLUDE_DISABLED,
    FWP_FILTER_ENUM_OVERLAPPING, FWP_MATCH_EQUAL, FWP_MATCH_FLAGS_ALL_SET, FWP_UINT8, FWP_UINT16, FWP_UINT32,
    FWP_V4_ADDR_AND_MASK, FWP_V4_ADDR_MASK, FWP_V6_ADDR_AND_MASK, FWP_V6_ADDR_MASK, FWPM_CONDITION_FLAGS,
    FWPM_CONDITION_IP_LOCAL_PORT, FWPM_CONDITION_IP_PROTOCOL, FWPM_CONDITION_IP_REMOTE_ADDRESS,
    FWPM_CONDITION_IP_REMOTE_PORT, FWPM_FILTER_CONDITION0, FWPM_FILTER_ENUM_TEMPLATE0,
    FWPM_FILTER_FLAG_BOOTTIME, FWPM_FILTER_FLAG_DISABLED, FWPM_FILTER_FLAG_PERSISTENT, FWPM_FILTER0,
    FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWPM_LAYER_ALE_AUTH_CONNECT_V6, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
    FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6, FWPM_PROVIDER_FLAG_PERSISTENT, FWPM_PROVIDER0, FWPM_SESSION0,
    FWPM_SUBLAYER_FLAG_PERSISTENT, FWPM_SUBLAYER0, FwpmEngineClose0, FwpmEngineOpen0, FwpmFilterAdd0,
    FwpmFilterCreateEnumHandle0, FwpmFilterDeleteById0, FwpmFilterDestroyEnumHandle0, FwpmFilterEnum0,
    FwpmFreeMemory0, FwpmProviderAdd0, FwpmProviderDeleteByKey0, FwpmSubLayerAdd0, FwpmSubLayerDeleteByKey0,
    FwpmTransactionAbort0, FwpmTransactionBegin0, FwpmTransactionCommit0,
};
use windows_sys::Win32::System::Rpc::RPC_C_AUTHN_WINNT;
use windows_sys::core::GUID;

use crate::check_code;
use crate::text::{shown, wide};

/// By these all of ours are known, on every host and in every version.
const PROVIDER: GUID = GUID::from_u128(0x9d1f_6c5e_3a7b_4e0c_8f42_6b1d_a3c7_5e91);
const SUBLAYER: GUID = GUID::from_u128(0x4c08_e2b7_91d6_47f3_a5be_02c9_7f68_d41a);
const PROVIDER_NAME: &str = "Rampart";
/// The service that the provider is of: filters of one without, or whose service does not start by itself, are
/// disabled when BFE starts (Microsoft's page on `FWPM_FILTER0`).
pub const SERVICE_NAME: &str = "RampartAgent";
/// Above most others: what a sublayer blocks is blocked, but for a hard permit in a heavier one.
const SUBLAYER_WEIGHT: u16 = 0xfff0;

/// So long another's transaction is waited for, in milliseconds.
const WAITS: u32 = 10_000;

/// Filters of ours in one layer; an isolation has some dozens.
const MOST_FILTERS: usize = 100_000;
const PAGE: u32 = 256;

/// The sizes of 64-bit Windows, which the SDK's own compiler gives.
const _: () = assert!(size_of::<FWPM_FILTER0>() == 200);
const _: () = assert!(size_of::<FWPM_FILTER_CONDITION0>() == 40);
const _: () = assert!(size_of::<FWPM_FILTER_ENUM_TEMPLATE0>() == 72);
const _: () = assert!(size_of::<FWPM_SUBLAYER0>() == 72);
const _: () = assert!(size_of::<FWPM_PROVIDER0>() == 64);
const _: () = assert!(size_of::<FWPM_SESSION0>() == 72);

/// Where a filter judges: who begins a connection or a conversation, and its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// This host, by IPv4.
    ConnectV4,
    /// This host, by IPv6.
    ConnectV6,
    /// Another, by IPv4.
    AcceptV4,
    /// Another, by IPv6.
    AcceptV6,
}

const LAYERS: [(Layer, GUID); 4] = [
    (Layer::ConnectV4, FWPM_LAYER_ALE_AUTH_CONNECT_V4),
    (Layer::ConnectV6, FWPM_LAYER_ALE_AUTH_CONNECT_V6),
    (Layer::AcceptV4, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4),
    (Layer::AcceptV6, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6),
];

/// What must be so for a filter to judge; all of a filter's conditions must. At most one of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It does not leave the host.
    Loopback,
    /// The protocol has this number.
    Protocol(u8),
    /// The other end is in this network: an address and bits of it.
    Remote(IpAddr, u8),
    /// The other end has this port.
    RemotePort(u16),
    /// This end has this port.
    LocalPort(u16),
}

/// A filter of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Its name; several may have the same.
    pub name: String,
    /// Where it judges.
    pub layer: Layer,
    /// Whether it permits; else it blocks.
    pub permits: bool,
    /// From 0 to 15: the largest of those that fit decides. Zero in those that were read.
    pub weight: u8,
    /// In order.
    pub conditions: Vec<Condition>,
}

/// The system's filtering service.
#[derive(Debug)]
pub struct Engine(HANDLE);

impl Engine {
    /// A session with it. Filters outlive the session.
    ///
    /// # Errors
    /// It does not run, or this account may not.
    pub fn open() -> io::Result<Self> {
        let mut name = wide(PROVIDER_NAME);
        // SAFETY: a structure of numbers and pointers, for which zero is good.
        let mut session: FWPM_SESSION0 = unsafe { std::mem::zeroed() };
        session.displayData.name = name.as_mut_ptr();
        session.txnWaitTimeoutInMSec = WAITS;
        let mut engine = null_mut();
        // SAFETY: null is this machine and this account; `session`, the name in it and `engine` are live.
        check_code(unsafe {
            FwpmEngineOpen0(null(), RPC_C_AUTHN_WINNT, null(), &raw const session, &raw mut engine)
        })?;
        if engine.is_null() { Err(io::ErrorKind::Unsupported.into()) } else { Ok(Self(engine)) }
    }

    /// All filters of ours as the service has them. One that is not in force, or does anything that ours don't, is
    /// not among them.
    ///
    /// # Errors
    /// The service does not say.
    pub fn filters(&self) -> io::Result<Vec<Filter>> {
        Ok(self.numbered()?.into_iter().filter_map(|(_, filter)| filter).collect())
    }

    /// Removes the filters of ours with one of these names, whatever they do, and adds others, all at once or nothing.
    ///
    /// # Errors
    /// The service refuses; all is as it was.
    pub fn replace(&self, names: &[&str], wanted: &[Filter]) -> io::Result<()> {
        // Nothing is begun with a service that does not answer, nor where there is nothing to do.
        let is_there = self.named()?.iter().any(|(_, name)| names.contains(&name.as_str()));
        if wanted.is_empty() && !is_there {
            return Ok(());
        }
        self.at_once(|| {
            for (id, name) in self.named()? {
                if names.contains(&name.as_str()) {
                    // SAFETY: the handle is owned.
                    check_code(unsafe { FwpmFilterDeleteById0(self.0, id) })?;
                }
            }
            if !wanted.is_empty() {
                self.make_home()?;
            }
            wanted.iter().try_for_each(|filter| self.add(filter))
        })
    }

    /// How many filters of ours have this name, in force or not.
    ///
    /// # Errors
    /// The service does not say.
    pub fn count_of(&self, name: &str) -> io::Result<usize> {
        Ok(self.named()?.iter().filter(|(_, one)| one == name).count())
    }

    /// Removes all filters of ours, and then what they have in common unless another uses it.
    ///
    /// # Errors
    /// The names of filters that are left and why, or the service does not answer or refuses the rest.
    pub fn remove_all(&self) -> io::Result<()> {
        let delete = |id| {
            // SAFETY: the handle is owned.
            check_code(unsafe { FwpmFilterDeleteById0(self.0, id) })
        };
        let all = || self.named()?.into_iter().try_for_each(|(id, _)| delete(id));
        if let Err(error) = self.at_once(all) {
            // One that can't be removed must not keep the others.
            for (id, _) in self.named()? {
                let _ = delete(id);
            }
            let mut left: Vec<String> = self.named()?.into_iter().map(|(_, name)| name).collect();
            left.sort_unstable();
            left.dedup();
            if !left.is_empty() {
                return Err(io::Error::new(
                    error.kind(),
                    format!("{error}; left are `{}`", left.join("`, `")),
                ));
            }
        }
        self.at_once(|| {
            let (sublayer, provider) = (SUBLAYER, PROVIDER);
            // SAFETY: the handle is owned, the key is live.
            let sublayer = unsafe { FwpmSubLayerDeleteByKey0(self.0, &raw const sublayer) };
            if sublayer != FWP_E_IN_USE.cast_unsigned() {
                check_but(sublayer, FWP_E_SUBLAYER_NOT_FOUND)?;
            }
            // SAFETY: as above.
            let provider = unsafe { FwpmProviderDeleteByKey0(self.0, &raw const provider) };
            if provider == FWP_E_IN_USE.cast_unsigned() {
                return Ok(());
            }
            check_but(provider, FWP_E_PROVIDER_NOT_FOUND)
        })
    }

    fn at_once(&self, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // SAFETY: the handle is owned.
        check_code(unsafe { FwpmTransactionBegin0(self.0, 0) })?;
        // SAFETY: as above; a commit that fails leaves the transaction to be aborted.
        let done = change().and_then(|()| check_code(unsafe { FwpmTransactionCommit0(self.0) }));
        if done.is_err() {
            // SAFETY: as above.
            unsafe { FwpmTransactionAbort0(self.0) };
        }
        done
    }

    /// The provider and the sublayer that all of ours have.
    fn make_home(&self) -> io::Result<()> {
        let (mut name, mut service) = (wide(PROVIDER_NAME), wide(SERVICE_NAME));
        // SAFETY: a structure of numbers and pointers, for which zero is good.
        let mut provider: FWPM_PROVIDER0 = unsafe { std::mem::zeroed() };
        provider.providerKey = PROVIDER;
        provider.displayData.name = name.as_mut_ptr();
        provider.flags = FWPM_PROVIDER_FLAG_PERSISTENT;
        provider.serviceName = service.as_mut_ptr();
        // SAFETY: the handle is owned, the structure and the names in it are live; null is the usual rights.
        let added = unsafe { FwpmProviderAdd0(self.0, &raw const provider, null_mut()) };
        check_but(added, FWP_E_ALREADY_EXISTS)?;
        let mut key = PROVIDER;
        // SAFETY: as above.
        let mut sublayer: FWPM_SUBLAYER0 = unsafe { std::mem::zeroed() };
        sublayer.subLayerKey = SUBLAYER;
        sublayer.displayData.name = name.as_mut_ptr();
        sublayer.flags = FWPM_SUBLAYER_FLAG_PERSISTENT;
        sublayer.providerKey = &raw mut key;
        sublayer.weight = SUBLAYER_WEIGHT;
        // SAFETY: the handle is owned, the structure and what it points to are live; null is the usual rights.
        let added = unsafe { FwpmSubLayerAdd0(self.0, &raw const sublayer, null_mut()) };
        check_but(added, FWP_E_ALREADY_EXISTS)
    }

    fn add(&self, wanted: &Filter) -> io::Result<()> {
        let mut name = wide(&wanted.name);
        let mut key = PROVIDER;
        // What conditions point to; made before them, so that it does not move.
        let mut masks: Vec<Mask> = wanted.conditions.iter().map(Mask::of).collect();
        let mut conditions: Vec<FWPM_FILTER_CONDITION0> = wanted
            .conditions
            .iter()
            .zip(&mut masks)
            .map(|(condition, mask)| written(condition, mask))
            .collect();
        // SAFETY: a structure of numbers and pointers, for which zero is good.
        let mut filter: FWPM_FILTER0 = unsafe { std::mem::zeroed() };
        filter.displayData.name = name.as_mut_ptr();
        filter.flags = FWPM_FILTER_FLAG_PERSISTENT;
        filter.providerKey = &raw mut key;
        filter.layerKey = key_of(wanted.layer);
        filter.subLayerKey = SUBLAYER;
        filter.weight.r#type = FWP_UINT8;
        filter.weight.Anonymous.uint8 = wanted.weight;
        filter.numFilterConditions = u32::try_from(conditions.len()).unwrap_or(0);
        filter.filterCondition = conditions.as_mut_ptr();
        filter.action.r#type = if wanted.permits { FWP_ACTION_PERMIT } else { FWP_ACTION_BLOCK };
        // SAFETY: the handle is owned, the structure and all it points to are live; null is the usual rights, and its
        // number is not asked for.
        check_code(unsafe { FwpmFilterAdd0(self.0, &raw const filter, null_mut(), null_mut()) })
    }

    fn named(&self) -> io::Result<Vec<(u64, String)>> {
        self.each(|filter| (filter.filterId, name_of(filter)))
    }

    /// With the number of each; `None` for one that is not as ours are.
    fn numbered(&self) -> io::Result<Vec<(u64, Option<Filter>)>> {
        self.each(|filter| (filter.filterId, read(filter)))
    }

    fn each<T>(&self, take: impl Fn(&FWPM_FILTER0) -> T) -> io::Result<Vec<T>> {
        let mut all = Vec::new();
        for (_, layer) in LAYERS {
            let mut provider = PROVIDER;
            // SAFETY: a structure of numbers and pointers, for which zero is good.
            let mut template: FWPM_FILTER_ENUM_TEMPLATE0 = unsafe { std::mem::zeroed() };
            template.providerKey = &raw mut provider;
            template.layerKey = layer;
            template.enumType = FWP_FILTER_ENUM_OVERLAPPING;
            // One that is disabled now may be in force after the next start. What is in force is asked of each.
            template.flags = FWP_FILTER_ENUM_FLAG_INCLUDE_DISABLED;
            template.actionMask = u32::MAX;
            let mut listing = null_mut();
            // SAFETY: the handle is owned, the template, the key in it and `listing` are live.
            check_code(unsafe {
                FwpmFilterCreateEnumHandle0(self.0, &raw const template, &raw mut listing)
            })?;
            let read = self.pages(listing, &take, &mut all);
            // SAFETY: both handles are open.
            unsafe { FwpmFilterDestroyEnumHandle0(self.0, listing) };
            read?;
        }
        Ok(all)
    }

    fn pages<T>(
        &self,
        listing: HANDLE,
        take: &impl Fn(&FWPM_FILTER0) -> T,
        all: &mut Vec<T>,
    ) -> io::Result<()> {
        if listing.is_null() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        loop {
            let (mut entries, mut count) = (null_mut(), 0);
            // SAFETY: both handles are open, `entries` and `count` are live.
            check_code(unsafe { FwpmFilterEnum0(self.0, listing, PAGE, &raw mut entries, &raw mut count) })?;
            if !entries.is_null() {
                // SAFETY: the service gave so many pointers to filters, which are live until they are freed.
                for filter in unsafe { std::slice::from_raw_parts(entries, count as usize) } {
                    // SAFETY: as above.
                    if let Some(filter) = unsafe { filter.as_ref() } {
                        all.push(take(filter));
                    }
                }
                let mut memory = entries.cast();
                // SAFETY: the service allocated it, and nothing of it is kept.
                unsafe { FwpmFreeMemory0(&raw mut memory) };
            }
            if count < PAGE {
                return Ok(());
            }
            if all.len() > MOST_FILTERS {
                return Err(io::Error::other("there are more filters than are ever ours"));
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: the handle is owned and closed once. A transaction that is open is aborted.
        unsafe { FwpmEngineClose0(self.0) };
    }
}

/// The result of a call for which one error is as good as success.
fn check_but(code: u32, fine: i32) -> io::Result<()> {
    if code == fine.cast_unsigned() { Ok(()) } else { check_code(code) }
}

fn same(one: &GUID, other: &GUID) -> bool {
    (one.data1, one.data2, one.data3, one.data4) == (other.data1, other.data2, other.data3, other.data4)
}

fn key_of(layer: Layer) -> GUID {
    match layer {
        Layer::ConnectV4 => FWPM_LAYER_ALE_AUTH_CONNECT_V4,
        Layer::ConnectV6 => FWPM_LAYER_ALE_AUTH_CONNECT_V6,
        Layer::AcceptV4 => FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
        Layer::AcceptV6 => FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
    }
}

/// What a condition's value points to, where it is no number.
enum Mask {
    None,
    V4(FWP_V4_ADDR_AND_MASK),
    V6(FWP_V6_ADDR_AND_MASK),
}

impl Mask {
    fn of(condition: &Condition) -> Self {
        match condition {
            // In the order of the machine, as all addresses of WFP.
            Condition::Remote(IpAddr::V4(address), bits) => Self::V4(FWP_V4_ADDR_AND_MASK {
                addr: u32::from(*address),
                mask: u32::MAX.checked_shl(32 - u32::from((*bits).min(32))).unwrap_or(0),
            }),
            Condition::Remote(IpAddr::V6(address), bits) => {
                Self::V6(FWP_V6_ADDR_AND_MASK { addr: address.octets(), prefixLength: (*bits).min(128) })
            }
            _ => Self::None,
        }
    }
}

fn written(condition: &Condition, mask: &mut Mask) -> FWPM_FILTER_CONDITION0 {
    let number = |uint32| FWP_CONDITION_VALUE0_0 { uint32 };
    let port = |uint16| FWP_CONDITION_VALUE0_0 { uint16 };
    let (field, matches, kind, value) = match (condition, mask) {
        (Condition::Loopback, _) => (
            FWPM_CONDITION_FLAGS,
            FWP_MATCH_FLAGS_ALL_SET,
            FWP_UINT32,
            number(FWP_CONDITION_FLAG_IS_LOOPBACK),
        ),
        (Condition::Protocol(protocol), _) => {
            let value = FWP_CONDITION_VALUE0_0 { uint8: *protocol };
            (FWPM_CONDITION_IP_PROTOCOL, FWP_MATCH_EQUAL, FWP_UINT8, value)
        }
        (Condition::RemotePort(remote), _) => {
            (FWPM_CONDITION_IP_REMOTE_PORT, FWP_MATCH_EQUAL, FWP_UINT16, port(*remote))
        }
        (Condition::LocalPort(local), _) => {
            (FWPM_CONDITION_IP_LOCAL_PORT, FWP_MATCH_EQUAL, FWP_UINT16, port(*local))
        }
        (Condition::Remote(..), Mask::V6(mask)) => {
            let value = FWP_CONDITION_VALUE0_0 { v6AddrMask: std::ptr::from_mut(mask) };
            (FWPM_CONDITION_IP_REMOTE_ADDRESS, FWP_MATCH_EQUAL, FWP_V6_ADDR_MASK, value)
        }
        (Condition::Remote(..), Mask::V4(mask)) => {
            let value = FWP_CONDITION_VALUE0_0 { v4AddrMask: std::ptr::from_mut(mask) };
            (FWPM_CONDITION_IP_REMOTE_ADDRESS, FWP_MATCH_EQUAL, FWP_V4_ADDR_MASK, value)
        }
        // The service refuses a filter with this: a mask is made for each network.
        (Condition::Remote(..), Mask::None) => {
            (FWPM_CONDITION_IP_REMOTE_ADDRESS, FWP_MATCH_EQUAL, FWP_V4_ADDR_MASK, number(0))
        }
    };
    FWPM_FILTER_CONDITION0 {
        fieldKey: field,
        matchType: matches,
        conditionValue: FWP_CONDITION_VALUE0 { r#type: kind, Anonymous: value },
    }
}

fn name_of(filter: &FWPM_FILTER0) -> String {
    const MOST: usize = 256;
    let name = filter.displayData.name;
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the service gives a text that ends in a zero, and nothing is read behind that.
    let length = (0..MOST).take_while(|at| unsafe { *name.add(*at) } != 0).count();
    // SAFETY: so many were just read.
    shown(unsafe { std::slice::from_raw_parts(name, length) })
}

/// `None` if it is not as ours are: that it is in force and does what it should is then not known.
fn read(filter: &FWPM_FILTER0) -> Option<Filter> {
    // Other flags are the service's own business: it marks those that it has an index for.
    let is_in_force = filter.flags & FWPM_FILTER_FLAG_PERSISTENT != 0
        && filter.flags & (FWPM_FILTER_FLAG_DISABLED | FWPM_FILTER_FLAG_BOOTTIME) == 0;
    if !is_in_force || !same(&filter.subLayerKey, &SUBLAYER) {
        return None;
    }
    let permits = match filter.action.r#type {
        FWP_ACTION_PERMIT => true,
        FWP_ACTION_BLOCK => false,
        _ => return None,
    };
    let (layer, _) = LAYERS.into_iter().find(|(_, key)| same(key, &filter.layerKey))?;
    let mut conditions = Vec::new();
    if filter.numFilterConditions > 0 && !filter.filterCondition.is_null() {
        // SAFETY: the service gives so many conditions.
        let given = unsafe {
            std::slice::from_raw_parts(filter.filterCondition, filter.numFilterConditions as usize)
        };
        conditions = given.iter().map(read_condition).collect::<Option<_>>()?;
    }
    conditions.sort_unstable();
    Some(Filter { name: name_of(filter), layer, permits, weight: 0, conditions })
}

fn read_condition(condition: &FWPM_FILTER_CONDITION0) -> Option<Condition> {
    let is = |key: &GUID| same(&condition.fieldKey, key);
    let value = &condition.conditionValue;
    let field = &value.Anonymous;
    if is(&FWPM_CONDITION_FLAGS) {
        let is_ours = condition.matchType == FWP_MATCH_FLAGS_ALL_SET
            && value.r#type == FWP_UINT32
            // SAFETY: the type says which of the union it is.
            && unsafe { field.uint32 } == FWP_CONDITION_FLAG_IS_LOOPBACK;
        return is_ours.then_some(Condition::Loopback);
    }
    if condition.matchType != FWP_MATCH_EQUAL {
        return None;
    }
    if is(&FWPM_CONDITION_IP_REMOTE_ADDRESS) {
        return read_network(value);
    }
    // SAFETY: the type says which of the union it is.
    unsafe {
        match value.r#type {
            FWP_UINT8 if is(&FWPM_CONDITION_IP_PROTOCOL) => Some(Condition::Protocol(field.uint8)),
            FWP_UINT16 if is(&FWPM_CONDITION_IP_REMOTE_PORT) => Some(Condition::RemotePort(field.uint16)),
            FWP_UINT16 if is(&FWPM_CONDITION_IP_LOCAL_PORT) => Some(Condition::LocalPort(field.uint16)),
            _ => None,
        }
    }
}

/// The service may keep a single address without its mask.
fn read_network(value: &FWP_CONDITION_VALUE0) -> Option<Condition> {
    let field = &value.Anonymous;
    // SAFETY: the type says which of the union it is; what a pointer of it leads to is live with the filter.
    let (address, bits) = unsafe {
        match value.r#type {
            FWP_UINT32 => (IpAddr::V4(Ipv4Addr::from(field.uint32)), 32),
            FWP_V4_ADDR_MASK => {
                let network = field.v4AddrMask.as_ref()?;
                let bits = network.mask.leading_ones();
                (IpAddr::V4(Ipv4Addr::from(network.addr)), u8::try_from(bits).ok()?)
            }
            FWP_V6_ADDR_MASK => {
                let network = field.v6AddrMask.as_ref()?;
                (IpAddr::V6(Ipv6Addr::from(network.addr)), network.prefixLength)
            }
            FWP_BYTE_ARRAY16_TYPE => {
                (IpAddr::V6(Ipv6Addr::from(field.byteArray16.as_ref()?.byteArray16)), 128)
            }
            _ => return None,
        }
    };
    Some(Condition::Remote(address, bits))
}
