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
 * have come together. While rules may act on an exec, each rings besides at the CPU
 * that it happens on, where the agent then judges it before the program goes on.
 */
#include "ring.h"

struct process_key {
	u64 start_ns;
	u64 pid;
};

/* Processes whose end was reported, where two threads may both be the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_key);
	__type(value, u8);
} ended SEC(".maps");

/* What may not run. Filled by the agent, empty when it starts. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct blocked_text);
	__type(value, u32);
} blocked_texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct blocked_image);
	__type(value, u32);
} blocked_images SEC(".maps");

/* What is written into it is of no interest. A page, the least that a ring can have, takes
 * 256 of them; the agent empties it whenever it rings. */
struct doorbell {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* By CPU. One that has none wakes the reader of the stream. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1); /* the loader makes it as many as there can be CPUs */
	__type(key, u32);
	__array(values, struct doorbell);
} doorbells SEC(".maps");

/* Where a key of `blocked_texts` is put together. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct blocked_text);
} block_key SEC(".maps");

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

static __always_inline void put_cgroup(struct record_space *s, struct kernfs_node *node)
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

static __always_inline void put_args(struct record_space *s, struct mm_struct *mm)
{
	unsigned long start = mm->arg_start;
	u64 bytes = mm->arg_end - start;
	u64 length = bytes;
	u32 used = s->used;

	s->exec.args_bytes = (u32)bytes;
	if (length > ARGS_MAX) {
		length = ARGS_MAX;
		s->exec.head.flags |= EXEC_ARGS_CUT;
	}
	if (used > DATA_SPACE - ARGS_MAX)
		return;
	if (bpf_probe_read_user(s->data + used, length, (void *)start)) {
		s->exec.head.flags |= EXEC_ARGS_UNREAD;
		return;
	}
	s->exec.args_len = length;
	s->used = used + length;
}

/* Whether a variable that begins with these eight bytes may change what is run;
 * src/standing.rs has the whole names. In the byte order of little-endian machines. */
static __always_inline bool may_matter(u64 start)
{
	switch (start) {
	case 0x4f4c4552505f444cull: /* LD_PRELO */
	case 0x415242494c5f444cull: /* LD_LIBRA */
	case 0x54494455415f444cull: /* LD_AUDIT */
	case 0x47554245445f444cull: /* LD_DEBUG */
	case 0x49464f52505f444cull: /* LD_PROFI */
	case 0x41505f564e4f4347ull: /* GCONV_PA */
	case 0x55545f4342494c47ull: /* GLIBC_TU */
	case 0x564e455f48534142ull: /* BASH_ENV */
	case 0x435f54504d4f5250ull: /* PROMPT_C */
	case 0x41504e4f48545950ull: /* PYTHONPA */
	case 0x4f484e4f48545950ull: /* PYTHONHO */
	case 0x54534e4f48545950ull: /* PYTHONST */
	case 0x42494c354c524550ull: /* PERL5LIB */
	case 0x54504f354c524550ull: /* PERL5OPT */
	case 0x3d4244354c524550ull: /* PERL5DB= */
	case 0x3d42494c59425552ull: /* RUBYLIB= */
	case 0x3d54504f59425552ull: /* RUBYOPT= */
	case 0x54504f5f45444f4eull: /* NODE_OPT */
	case 0x4f4f545f4156414aull: /* JAVA_TOO */
		return true;
	}
	return (u32)start == 0x3d564e45; /* ENV= */
}

struct search {
	struct record_space *s;
	u32 at;
	u32 found;
};

/* Bits where a byte of the word is zero; above the lowest of them there may be others. */
static __always_inline u64 zero_bytes(u64 word)
{
	return (word - 0x0101010101010101ull) & ~word & 0x8080808080808080ull;
}

/* Whether a variable that may matter begins behind a zero byte among these sixteen. */
static __noinline int begins_here(u8 *bytes)
{
	if (!bytes)
		return 0;
	for (int i = 0; i < 16; i++) {
		if (!bytes[i] && may_matter(*(u64 *)(bytes + i + 1)))
			return 1;
	}
	return 0;
}

/* Looks for the beginnings of variables in a step of an environment: most of its words
 * have no zero byte, and calling this costs more than to look at one. */
static int search_step(u32 index, struct search *search)
{
	struct record_space *s = search->s;
	u32 at = search->at + index * SEARCH_STEP;
	u8 *begin;

	if (at > DATA_SPACE - SEARCH_SPACE)
		return 1;
	begin = s->data + at;
#pragma unroll
	for (u32 step = 0; step < SEARCH_STEP; step += 16) {
		u64 *words = (u64 *)(begin + step);

		if ((zero_bytes(words[0]) | zero_bytes(words[1])) && begins_here(begin + step)) {
			search->found = 1;
			return 1;
		}
	}
	return 0;
}

/* Sends the environment only where it may hold a variable that matters: it would
 * make most records several times as large. Searching takes a loop of 5.17. */
static __always_inline void put_environment(struct record_space *s, struct mm_struct *mm)
{
	unsigned long start = mm->env_start;
	u64 length = mm->env_end - start;
	u32 used = s->used;
	struct search search = { .s = s, .at = used };

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop))
		return;
	if (length > ENVIRONMENT_MAX) {
		length = ENVIRONMENT_MAX;
		s->exec.head.flags |= EXEC_ENVIRONMENT_CUT;
	}
	if (!length)
		return;
	if (used > DATA_SPACE - ENVIRONMENT_MAX - SEARCH_SPACE) {
		s->exec.head.flags |= EXEC_ENVIRONMENT_CUT;
		return;
	}
	if (bpf_probe_read_user(s->data + used, length, (void *)start))
		return;
	/* What lay there before does not count. */
	for (u32 i = 0; i < SEARCH_SPACE; i += 8)
		*(u64 *)(s->data + used + length + i) = 0;
	if (!may_matter(*(u64 *)(s->data + used)))
		bpf_loop((length + SEARCH_STEP - 1) / SEARCH_STEP, search_step, &search, 0);
	else
		search.found = 1;
	if (!search.found)
		return;
	s->exec.environment_len = length;
	s->used = used + length;
}

/* The flag of what stands on the block list; 0 if nothing does. The executable's names
 * lie at the beginning of `data`, the last of the path first. */
static __always_inline u16 blocked_by(struct record_space *s)
{
	struct exec_record *record = &s->exec;
	struct blocked_image image = {
		.inode = record->inode,
		.changed_s = record->changed_s,
		.changed_ns = record->changed_ns,
		.device = record->device,
	};
	struct blocked_text *text;
	u32 zero = 0, length = record->executable_len;

	if (bpf_map_lookup_elem(&blocked_images, &image))
		return EXEC_BLOCKED_IMAGE;
	text = bpf_map_lookup_elem(&block_key, &zero);
	if (!text)
		return 0;
	__builtin_memset(text, 0, sizeof(*text));
	text->kind = BLOCK_NAME;
	if (bpf_probe_read_kernel_str(text->text, BLOCK_TEXT_MAX, s->data) <= 0)
		return 0;
	if (bpf_map_lookup_elem(&blocked_texts, text))
		return EXEC_BLOCKED_NAME;
	if (length > BLOCK_TEXT_MAX || (record->head.flags & EXEC_EXECUTABLE_CUT))
		return 0;
	text->kind = BLOCK_PATH;
	if (bpf_probe_read_kernel(text->text, length, s->data))
		return 0;
	return bpf_map_lookup_elem(&blocked_texts, text) ? EXEC_BLOCKED_PATH : 0;
}

static __always_inline void put_namespaces(u32 *inodes, struct task_struct *task, const struct cred *cred)
{
	struct nsproxy *all = task->nsproxy;

	inodes[0] = all->mnt_ns->ns.inum;
	inodes[1] = all->pid_ns_for_children->ns.inum;
	inodes[2] = all->net_ns->ns.inum;
	inodes[3] = all->uts_ns->ns.inum;
	inodes[4] = all->ipc_ns->ns.inum;
	inodes[5] = cred->user_ns->ns.inum;
	inodes[6] = all->cgroup_ns->ns.inum;
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
	struct record_space *s;
	struct exec_record *record;
	struct control *settings;
	struct file *file;
	struct pid *session;
	struct tty_struct *tty;
	u32 zero = 0, cpu = bpf_get_smp_processor_id(), before, size;
	void *doorbell = 0;
	bool at_once = false;
	long n;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s || !mm)
		return 0;
	record = &s->exec;
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
	/* Two words before 6.3, one since; the same bytes. */
	bpf_probe_read_kernel(&record->capabilities, sizeof(record->capabilities),
			      (void *)cred + bpf_core_field_offset(struct cred, cap_effective));
	put_namespaces(record->namespaces, task, cred);
	record->environment_len = 0;
	record->reserved = 0;
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

	settings = bpf_map_lookup_elem(&control, &zero);
	if (settings) {
		at_once = settings->wake_on_exec != 0;
		if (settings->block_until_ns > record->head.at_ns && task->tgid != 1) {
			u16 blocked = blocked_by(s);

			/* It runs in the kernel now, and will not leave it alive. */
			if (blocked && bpf_send_signal(SIGKILL) == 0)
				record->head.flags |= blocked;
		}
	}

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
	put_environment(s, mm);

	size = s->used;
	if (size > DATA_SPACE)
		return 0;
	size += sizeof(struct exec_record);
	record->head.size = size;
	if (at_once)
		doorbell = bpf_map_lookup_elem(&doorbells, &cpu);
	send(record, size, COUNT_EXEC, at_once && !doorbell);
	/* One that is full was not answered for long; the stream is looked at all the same. */
	if (doorbell)
		bpf_ringbuf_output(doorbell, &cpu, sizeof(cpu), BPF_RB_FORCE_WAKEUP);
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
	if (record.kernel_thread)
		put_namespaces(record.namespaces, task, task->cred);
	if (!record.kernel_thread && task->signal->live.counter > 0)
		bpf_map_update_elem(&clock, &pid, &start_ns, BPF_NOEXIST);
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* Some helpers are open to GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
