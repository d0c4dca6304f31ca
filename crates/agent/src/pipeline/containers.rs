//! The first process of a container.

use event_model::{EventType, Field, Value};
use sensor_api::{Actor, ObservedActivity, ObservedImage, ProcessKey};

use super::Work;
use crate::container::named;

impl Work {
    /// The process was there before the agent, and so was its container.
    pub(super) fn met_before(&mut self, image: &ObservedImage) {
        if let Some(named) = image.cgroup_path.as_deref().and_then(named) {
            self.images.containers.meet(&named.id);
        }
    }

    /// Tells of the container if this is the first process that was seen in it.
    pub(super) fn meet_container(&mut self, key: ProcessKey, at_ns: u64) {
        let Some(entry) = self.table.entry(key) else { return };
        let Some(id) = entry.image.container_id.clone() else { return };
        // A child of a process in the same container is not the first, even if the
        // agent sees this container for the first time.
        let parent = entry.parent.and_then(|parent| self.table.entry(parent));
        let is_child = parent.is_some_and(|parent| parent.image.container_id.as_ref() == Some(&id));
        let container = entry.image.container.clone();
        if !self.images.containers.meet(&id) || is_child {
            return;
        }
        let mut fields = vec![(Field::ContainerId, Value::Text(id))];
        if let Some(container) = container {
            for (field, text) in [
                (Field::ContainerRuntime, container.runtime.map(str::to_owned)),
                (Field::ContainerName, container.name.clone()),
                (Field::ContainerImage, container.image.clone()),
                (Field::PodName, container.pod.clone()),
                (Field::PodNamespace, container.pod_namespace.clone()),
                (Field::PodUid, container.pod_uid.clone()),
            ] {
                fields.extend(text.map(|text| (field, Value::Text(text))));
            }
            if !container.labels.is_empty() {
                fields.push((Field::ContainerLabels, Value::TextList(container.labels.clone())));
            }
        }
        let event_type = EventType::ContainerStart;
        let activity = ObservedActivity { event_type, actor: Some(Actor::Life(key)), target: None, fields };
        self.tell_activity(at_ns, activity, false);
    }
}
