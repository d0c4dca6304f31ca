//! What a process runs and as whom: the facts of an exec, made ready for events.

use std::sync::Arc;

use event_model::{Image, User};
use protocol::wire::{MAX_LIST_ITEMS, MAX_TEXT_BYTES};
use sensor_api::ObservedImage;

use crate::container::{Containers, Named, named};
use crate::system::paths::USER_TABLE;
use crate::users::Users;

/// Makes images of observations.
#[derive(Debug)]
pub struct Images {
    users: Users,
    /// The containers that processes run in.
    pub containers: Containers,
    /// The last cgroup and the container that its path names: most processes start where the one before did.
    last_cgroup: (String, Option<Named>),
}

impl Default for Images {
    fn default() -> Self {
        let (users, containers) = (Users::new(USER_TABLE), Containers::new("/"));
        Self { users, containers, last_cgroup: (String::new(), None) }
    }
}

impl Images {
    /// The observed image with the names that this host gives to its numbers.
    pub fn take(&mut self, observed: ObservedImage) -> Arc<Image> {
        let mut name = |id: u32| self.users.name(id).map(str::to_owned);
        let user = User {
            id: observed.uid,
            name: observed.user_name.or_else(|| name(observed.uid)),
            effective_id: observed.euid,
            group_id: observed.gid,
            login_id: observed.login_uid,
            login_name: observed.login_uid.and_then(&mut name),
        };
        let mut command_line = observed.command_line.unwrap_or_else(|| observed.args.join(" "));
        let mut args_truncated = observed.args_truncated;
        if command_line.len() > MAX_TEXT_BYTES {
            // What the wire would cut is cut here, where it can be marked.
            command_line.truncate(command_line.floor_char_boundary(MAX_TEXT_BYTES));
            args_truncated = true;
        }
        let mut args = observed.args;
        if args.len() > MAX_LIST_ITEMS {
            args.truncate(MAX_LIST_ITEMS);
            args_truncated = true;
        }
        let cgroup_path = observed.cgroup_path.as_deref().unwrap_or_default();
        if self.last_cgroup.0 != cgroup_path {
            self.last_cgroup = (cgroup_path.to_owned(), named(cgroup_path));
        }
        let named = self.last_cgroup.1.as_ref();
        Arc::new(Image {
            executable: observed.executable,
            command_line,
            args,
            args_bytes: observed.args_bytes,
            args_truncated,
            working_directory: observed.working_directory,
            user,
            tty: observed.tty,
            session_id: observed.session_id,
            file: observed.image,
            image_deleted: observed.image_deleted,
            container: named.map(|named| self.containers.facts(named)),
            container_id: named.map(|named| named.id.clone()),
            cgroup_path: observed.cgroup_path,
            kernel_thread: observed.kernel_thread,
            capabilities: observed.capabilities,
            environment: observed.environment,
            memfd: observed.memfd,
            namespaces: observed.namespaces,
            blocked: observed.blocked,
        })
    }
}
