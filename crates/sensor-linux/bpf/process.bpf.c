// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Process starts and ends, from three tracepoints that every kernel since 5.8
 * with BTF has: sched_process_fork, sched_process_exec, sched_process_exit.
 *
 * Each event becomes one record (record.h) in one ring, so the order in the ring
 * is the kernel's order. A record that finds no room is counted, by type.
 *
 * A wake-up of the reader costs many times the record itself, so records don't
 * wake it: it looks by itself every few milliseconds. It is woken when 64 KiB
 * have come together, and at once for an exec while rules may act on one.
 */
#include "record.h"
#include "kernel_types.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* The kernel's trees have no limit that could be stated; this one covers
 * every sane path, and a deeper one is marked as cut. */
#define DEPTH_MAX 96
#define NAME_SPACE 256u
#define TTY_SPACE 64u
#define FILENAME_SPACE 1024u
/* Where each path must end within the data behind the record. */
#define EXECUTABLE_END 4096u
#define CWD_END 8192u
#define CGROUP_END 10240u
#define DATA_SPACE (CGROUP_END + TTY_SPACE + FILENAME_SPACE + ARGS_MAX)

#define WAKE_BYTES 65536u

struct exec_scratch {
	struct exec_record record;
	u8 data[DATA_SPACE];
	/* Behind what is sent: how much of `data` is used. In memory and not in a
	 * register, so that the verifier sees one state for all lengths. */
	u32 used;
	u32 cut;
};

struct process_key {
	u64 start_ns;
	u64 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct exec_scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNT_TYPES);
	__type(key, u32);
	__type(value, struct counter);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ledger);
} ledger SEC(".maps");

/* PID to start of every live process: which life of a PID it is. Made as large
 * as the host's processes can become many, and filled only as they do. A process
 * that finds no room is looked up in /proc by who wants to act on it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u32);
	__type(value, u64);
} clock SEC(".maps");

/* Processes whose end was reported, where two threads may both be the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_key);
	__type(value, u8);
} ended SEC(".maps");

/* Producer position at the last wake-up. Races between CPUs only make a wake-up
 * come a little earlier or later. */
static volatile u64 woken_at;

static __always_inline void send(void *record, u64 size, u32 count_as, bool at_once)
{
	u64 produced = bpf_ringbuf_query(&ring, BPF_RB_PROD_POS);
	u64 flags = BPF_RB_NO_WAKEUP;
	struct counter *counter;

	if (at_once || produced - woken_at >= WAKE_BYTES) {
		flags = BPF_RB_FORCE_WAKEUP;
		woken_at = produced;
	}
	counter = bpf_map_lookup_elem(&counters, &count_as);
	if (!counter)
		return;
	if (bpf_ringbuf_output(&ring, record, size, flags))
		counter->lost++;
	else
		counter->produced++;
}

static __always_inline void fill_head(struct record_head *head, u16 type, u32 size, struct task_struct *leader)
{
	head->magic = RECORD_MAGIC;
	head->type = type;
	head->flags = 0;
	head->size = size;
	head->pid = leader->tgid;
	head->at_ns = bpf_ktime_get_boot_ns();
	head->start_ns = leader->start_boottime;
}

/* Appends a name with its ending zero; false if it can't be read or no room is left. */
static __always_inline bool put_name(struct exec_scratch *s, const void *name, u32 end)
{
	u32 used = s->used;
	long n;

	if (used > end - NAME_SPACE)
		return false;
	n = bpf_probe_read_kernel_str(s->data + used, NAME_SPACE, name);
	if (n <= 0)
		return false;
	s->used = used + (u32)n;
	return true;
}

/* Appends the names from a file up to the root of its mount namespace. Sets
 * `cut` where it could not get there. */
static __always_inline void put_path(struct exec_scratch *s, struct dentry *dentry, struct vfsmount *vfsmount, u32 end)
{
	struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
	struct dentry *mount_root = BPF_CORE_READ(vfsmount, mnt_root);

	s->cut = 1;
	for (int i = 0; i < DEPTH_MAX; i++) {
		struct dentry *parent;

		if (dentry == mount_root) {
			struct mount *parent_mount = BPF_CORE_READ(mount, mnt_parent);

			if (parent_mount == mount) {
				s->cut = 0;
				return;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = parent_mount;
			mount_root = BPF_CORE_READ(mount, mnt.mnt_root);
			continue;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!put_name(s, BPF_CORE_READ(dentry, d_name.name), end))
			return;
		if (parent == dentry) {
			/* Outside of every tree, as a memfd is. */
			s->cut = 0;
			return;
		}
		dentry = parent;
	}
}

static __always_inline struct kernfs_node *cgroup_parent(struct kernfs_node *node)
{
	struct kernfs_node___old *old = (void *)node;

	if (bpf_core_field_exists(node->__parent))
		return BPF_CORE_READ(node, __parent);
	return BPF_CORE_READ(old, parent);
}

static __always_inline struct kernfs_node *cgroup_node(struct css_set *set, u32 subsystem)
{
	struct cgroup_subsys_state *state = 0;
	u64 at = bpf_core_field_offset(struct css_set, subsys) + subsystem * sizeof(void *);

	if (bpf_probe_read_kernel(&state, sizeof(state), (void *)set + at) || !state)
		return 0;
	return BPF_CORE_READ(state, cgroup, kn);
}

/* The node of the cgroup that says most: that of the one hierarchy, unless the
 * task is at its root, as everything is where the old hierarchies are in use. */
static __always_inline struct kernfs_node *best_cgroup_node(struct css_set *set)
{
	struct kernfs_node *node = set->dfl_cgrp->kn;

	if (node && cgroup_parent(node))
		return node;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) {
		node = cgroup_node(set, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id));
		if (node && cgroup_parent(node))
			return node;
	}
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id)) {
		node = cgroup_node(set, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
		if (node && cgroup_parent(node))
			return node;
	}
	return 0;
}

static __always_inline void put_cgroup(struct exec_scratch *s, struct kernfs_node *node)
{
	s->cut = 1;
	for (int i = 0; i < DEPTH_MAX; i++) {
		struct kernfs_node *parent;

		parent = node ? cgroup_parent(node) : 0;
		if (!parent) {
			s->cut = 0;
			return;
		}
		if (!put_name(s, BPF_CORE_READ(node, name), CGROUP_END))
			return;
		node = parent;
	}
}

static __always_inline void fill_file(struct exec_record *record, struct inode *inode)
{
	struct inode___timespec *timespec = (void *)inode;
	struct inode___old *old = (void *)inode;

	record->inode = inode->i_ino;
	record->size = inode->i_size;
	record->links = inode->i_nlink;
	record->device = inode->i_sb->s_dev;
	if (bpf_core_field_exists(inode->i_mtime_sec)) {
		record->modified_s = inode->i_mtime_sec;
		record->modified_ns = inode->i_mtime_nsec;
	} else if (bpf_core_field_exists(timespec->__i_mtime)) {
		record->modified_s = timespec->__i_mtime.tv_sec;
		record->modified_ns = timespec->__i_mtime.tv_nsec;
	} else {
		record->modified_s = old->i_mtime.tv_sec;
		record->modified_ns = old->i_mtime.tv_nsec;
	}
	/* Renamed one version earlier than the modification time was. */
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		record->changed_s = inode->i_ctime_sec;
		/* Since 6.13 the uppermost bit says that someone has looked. */
		record->changed_ns = inode->i_ctime_nsec & ~(1u << 31);
	} else if (bpf_core_field_exists(timespec->__i_ctime)) {
		record->changed_s = timespec->__i_ctime.tv_sec;
		record->changed_ns = timespec->__i_ctime.tv_nsec;
	} else {
		record->changed_s = old->i_ctime.tv_sec;
		record->changed_ns = old->i_ctime.tv_nsec;
	}
}

static __always_inline void put_args(struct exec_scratch *s, struct mm_struct *mm)
{
	unsigned long start = mm->arg_start;
	u64 bytes = mm->arg_end - start;
	u64 length = bytes;
	u32 used = s->used;

	s->record.args_bytes = (u32)bytes;
	if (length > ARGS_MAX) {
		length = ARGS_MAX;
		s->record.head.flags |= EXEC_ARGS_CUT;
	}
	if (used > DATA_SPACE - ARGS_MAX)
		return;
	if (bpf_probe_read_user(s->data + used, length, (void *)start)) {
		s->record.head.flags |= EXEC_ARGS_UNREAD;
		return;
	}
	s->record.args_len = length;
	s->used = used + length;
}

SEC("tp_btf/sched_process_exec")
int on_exec(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct linux_binprm *bprm = (void *)ctx[2];
	struct signal_struct *signal = task->signal;
	struct mm_struct *mm = task->mm;
	const struct cred *cred = task->cred;
	struct task_struct *parent = task->real_parent;
	struct exec_scratch *s;
	struct exec_record *record;
	struct control *settings;
	struct file *file;
	struct pid *session;
	struct tty_struct *tty;
	u32 zero = 0, before, size;
	bool at_once = false;
	long n;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s || !mm)
		return 0;
	record = &s->record;
	fill_head(&record->head, RECORD_EXEC, 0, task);
	record->parent_pid = parent->tgid;
	record->parent_start_ns = parent->group_leader->start_boottime;
	record->uid = cred->uid.val;
	record->euid = cred->euid.val;
	record->gid = cred->gid.val;
	record->login_uid = NO_ID;
	if (bpf_core_field_exists(task->loginuid))
		record->login_uid = task->loginuid.val;
	session = signal->pids[PIDTYPE_SID];
	record->session_id = session ? BPF_CORE_READ(session, numbers[0].nr) : NO_ID;
	record->args_len = 0;
	record->tty_len = 0;
	record->filename_len = 0;
	s->used = 0;

	file = mm->exe_file;
	fill_file(record, file->f_inode);
	put_path(s, file->f_path.dentry, file->f_path.mnt, EXECUTABLE_END);
	record->executable_len = s->used;
	if (s->cut)
		record->head.flags |= EXEC_EXECUTABLE_CUT;

	before = s->used;
	put_path(s, task->fs->pwd.dentry, task->fs->pwd.mnt, CWD_END);
	record->cwd_len = s->used - before;
	if (s->cut)
		record->head.flags |= EXEC_CWD_CUT;

	before = s->used;
	put_cgroup(s, best_cgroup_node(task->cgroups));
	record->cgroup_len = s->used - before;
	if (s->cut)
		record->head.flags |= EXEC_CGROUP_CUT;

	tty = signal->tty;
	before = s->used;
	if (tty && before <= CGROUP_END) {
		n = bpf_probe_read_kernel_str(s->data + before, TTY_SPACE,
					      (void *)tty + bpf_core_field_offset(struct tty_struct, name));
		if (n > 0) {
			record->tty_len = n;
			s->used = before + (u32)n;
		}
	}

	before = s->used;
	if ((record->head.flags & EXEC_EXECUTABLE_CUT) && before <= CGROUP_END + TTY_SPACE) {
		n = bpf_probe_read_kernel_str(s->data + before, FILENAME_SPACE, BPF_CORE_READ(bprm, filename));
		if (n > 0) {
			record->filename_len = n;
			s->used = before + (u32)n;
		}
	}
	put_args(s, mm);

	settings = bpf_map_lookup_elem(&control, &zero);
	if (settings)
		at_once = settings->wake_on_exec != 0;
	size = s->used;
	if (size > DATA_SPACE)
		return 0;
	size += sizeof(struct exec_record);
	record->head.size = size;
	send(record, size, COUNT_EXEC, at_once);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int on_fork(u64 *ctx)
{
	struct task_struct *child = (void *)ctx[1];
	struct task_struct *parent = child->real_parent;
	struct fork_record record = {};
	u32 pid = child->tgid;
	u64 start_ns = child->start_boottime;

	/* A thread of the same process, or one of the kernel's own. */
	if (child->pid != child->tgid || (child->flags & PF_KTHREAD))
		return 0;
	bpf_map_update_elem(&clock, &pid, &start_ns, BPF_ANY);
	fill_head(&record.head, RECORD_FORK, sizeof(record), child);
	record.parent_pid = parent->tgid;
	record.parent_start_ns = parent->group_leader->start_boottime;
	send(&record, sizeof(record), COUNT_FORK, false);
	return 0;
}

static __always_inline bool first_to_end(struct task_struct *leader)
{
	struct process_key key = { .start_ns = leader->start_boottime, .pid = leader->tgid };
	u8 mark = 1;

	return bpf_map_update_elem(&ended, &key, &mark, BPF_NOEXIST) == 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct task_struct *leader = task->group_leader;
	struct signal_struct *signal = task->signal;
	struct exit_record record = {};
	u32 pid = task->tgid;
	bool known;

	if (signal->live.counter != 0 || (task->flags & PF_KTHREAD))
		return 0;
	/* `live` fell to 0 with one thread, but a second that ended at the same
	 * moment may also see the 0 here. The first of them leaves its mark. */
	known = bpf_map_delete_elem(&clock, &pid) == 0;
	if ((!known || signal->nr_threads > 1) && !first_to_end(leader))
		return 0;
	fill_head(&record.head, RECORD_EXIT, sizeof(record), leader);
	record.wait_status = (signal->flags & SIGNAL_GROUP_EXIT) ? signal->group_exit_code : leader->exit_code;
	send(&record, sizeof(record), COUNT_EXIT, false);
	return 0;
}

/* Every process that is there now; also enters those that are older than the
 * programs into `clock`. */
SEC("iter/task")
int each_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_record record = {};
	struct task_struct *parent;
	u32 pid;
	u64 start_ns;

	if (!task || task->pid != task->tgid)
		return 0;
	pid = task->tgid;
	start_ns = task->start_boottime;
	parent = task->real_parent;
	record.pid = pid;
	record.start_ns = start_ns;
	record.parent_pid = parent->tgid;
	record.parent_start_ns = parent->group_leader->start_boottime;
	record.kernel_thread = (task->flags & PF_KTHREAD) != 0;
	if (!record.kernel_thread && task->signal->live.counter > 0)
		bpf_map_update_elem(&clock, &pid, &start_ns, BPF_NOEXIST);
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* Some helpers are open to GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
