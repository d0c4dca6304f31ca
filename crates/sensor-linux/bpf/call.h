/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What programs at the ends of system calls have in common: the arguments, which
 * still stand in the registers, the objects that they name, and the counting of
 * acts that come in masses.
 *
 * At the end of a call the kernel's own objects can be asked what was really done;
 * only texts that the kernel keeps nowhere are read from the caller's memory, which
 * another of its threads may have changed by then.
 */
#ifndef RAMPART_CALL_H
#define RAMPART_CALL_H

#include "act.h"

#define PROC_SUPER_MAGIC 0x9fa0
#define NSFS_MAGIC 0x6e736673

#define SECOND 1000000000ull

/* Where texts end within the data behind the record. */
#define TEXT_SPACE 4096u
#define SHORT_SPACE 256u

/* What a descriptor of the current process stands for, where that is not a file. */
static __always_inline void *object_of(u32 descriptor)
{
	struct file *file = file_of(descriptor);

	return BPF_CORE_READ(file, private_data);
}

/* The main thread of the process that one of these is or belongs to. */
static __always_inline struct task_struct *leader_of(struct pid *pid)
{
	struct hlist_node *first = BPF_CORE_READ(pid, tasks[0].first);

	if (!pid || !first)
		return 0;
	return BPF_CORE_READ((struct task_struct *)((void *)first - bpf_core_field_offset(struct task_struct, pid_links)),
			     group_leader);
}

/* The main thread of whoever has this number in the current process's PID
 * namespace: the kernel's tree of numbers, walked as the kernel does. */
static __always_inline struct task_struct *find_process(u32 number)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct pid *own = BPF_CORE_READ(task, thread_pid);
	u64 level = BPF_CORE_READ(own, level);
	struct pid_namespace *ns = 0;
	void *upid, *entry;

	upid = (void *)own + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&ns, sizeof(ns), upid + bpf_core_field_offset(struct upid, ns));
	entry = BPF_CORE_READ(ns, idr.idr_rt.xa_head);
	for (int i = 0; i < 6; i++) {
		struct xa_node *node;
		u64 slot;

		/* The kernel marks its own nodes so. */
		if (((u64)entry & 3) != 2)
			break;
		node = entry - 2;
		slot = number >> BPF_CORE_READ(node, shift);
		if (i == 0 && slot > 63)
			return 0;
		entry = 0;
		bpf_probe_read_kernel(&entry, sizeof(entry),
				      (void *)node + bpf_core_field_offset(struct xa_node, slots) + (slot & 63) * sizeof(void *));
	}
	if (!entry || ((u64)entry & 3))
		return 0;
	return leader_of(entry);
}

/* Who a pidfd stands for: kept in the file before 6.9, in the inode since. */
static __always_inline struct task_struct *process_of_pidfd(struct file *file)
{
	struct pid *pid = BPF_CORE_READ(file, private_data);

	if (!pid)
		pid = BPF_CORE_READ(file, f_inode, i_private);
	return leader_of(pid);
}

static __always_inline void set_target_process(struct act_record *act, struct task_struct *leader)
{
	act->target_pid = BPF_CORE_READ(leader, tgid);
	act->target_start_ns = BPF_CORE_READ(leader, start_boottime);
}

static __always_inline struct task_struct *own_leader(void)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	return task->group_leader;
}

/* Acts that are alike: by whom, to whom, what. */
struct fold_key {
	u64 who;
	u64 whom;
	u64 what;
};

struct fold {
	u64 told_ns;
	u64 untold;
	u64 span_ns;
	u64 count_as;
};

/* No LRU map: that one drops entries, and with them what they counted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fold_key);
	__type(value, struct fold);
} folds SEC(".maps");

/* When room was last made there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} folds_swept SEC(".maps");

/* Stands in `told_ns` of a fold that is given up: it counts no more. */
#define GIVEN_UP (~0ull)

/* Whoever changes `told_ns` has the right to tell, and `untold` is taken as a whole, so
 * that no act is told twice or by nobody, however many CPUs count at once. */
static __always_inline bool may_tell(struct fold *fold, u64 told_ns, u64 now)
{
	return __sync_val_compare_and_swap(&fold->told_ns, told_ns, now) == told_ns;
}

static __always_inline u64 take_untold(struct fold *fold)
{
	return __sync_lock_test_and_set(&fold->untold, 0);
}

/* Other CPUs' clocks and records may be a little ahead of this one's `now`. */
static __always_inline bool is_over(u64 told_ns, u64 span_ns, u64 now)
{
	return (s64)(now - told_ns) >= (s64)span_ns;
}

/* Gives up a fold whose span is over. What it counted and no record told is lost. */
static long sweep_fold(void *map, struct fold_key *key, struct fold *fold, u64 *now)
{
	struct fold_key own = *key;
	u64 told_ns = *(volatile u64 *)&fold->told_ns, untold;

	if (told_ns != GIVEN_UP && (!is_over(told_ns, fold->span_ns, *now) || !may_tell(fold, told_ns, GIVEN_UP)))
		return 0;
	untold = take_untold(fold);
	if (untold)
		count_lost((u32)fold->count_as, untold);
	bpf_map_delete_elem(map, &own);
	return 0;
}

/* How many acts the record of this one stands for: itself and those since the last
 * record of its kind. 0: there was such a record less than `span_ns` ago, so this act
 * goes into the count of the next. */
static __always_inline u64 fold(struct fold_key *key, u64 span_ns, u32 count_as)
{
	u64 now = bpf_ktime_get_boot_ns();
	struct fold *seen = bpf_map_lookup_elem(&folds, key);
	struct fold first = { .told_ns = now, .span_ns = span_ns, .count_as = count_as };
	struct counter *counter;
	u64 told_ns, *swept, untold;
	u32 zero = 0;

	if (!seen) {
		if (!bpf_map_update_elem(&folds, key, &first, BPF_NOEXIST))
			return 1;
		/* Another CPU was faster, or there is no room: then the act is told for itself, and
		 * once a second room is made. */
		seen = bpf_map_lookup_elem(&folds, key);
	}
	if (!seen) {
		swept = bpf_map_lookup_elem(&folds_swept, &zero);
		if (swept && now - *swept > SECOND) {
			*swept = now;
			bpf_for_each_map_elem(&folds, sweep_fold, &now, 0);
		}
		return 1;
	}
	told_ns = *(volatile u64 *)&seen->told_ns;
	if (told_ns == GIVEN_UP)
		return 1;
	if (is_over(told_ns, span_ns, now) && may_tell(seen, told_ns, now))
		return take_untold(seen) + 1;
	__sync_fetch_and_add(&seen->untold, 1);
	counter = bpf_map_lookup_elem(&counters, &count_as);
	if (counter)
		__sync_fetch_and_add(&counter->folded, 1);
	/* Given up in between, perhaps before this act was counted. */
	if (*(volatile u64 *)&seen->told_ns == GIVEN_UP) {
		untold = take_untold(seen);
		if (untold)
			count_lost(count_as, untold);
	}
	return 0;
}

/* The executable of the current process, as a number for fold keys. */
static __always_inline u64 own_image(void)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct inode *inode = LOOK(LOOK(task->mm, exe_file), f_inode);

	return LOOK(inode, i_ino) ^ ((u64)LOOK(LOOK(inode, i_sb), s_dev) << 32);
}

static __always_inline s32 result_of(s64 result)
{
	return result < 0 ? (s32)result : 0;
}

/* The length of text `index` is all that came since `before`. */
static __always_inline void close_text(struct record_space *s, u32 index, u32 before)
{
	s->act.text_len[index] = s->used - before;
}

/* Puts a path as text `index`. */
static __always_inline void put_path_text(struct record_space *s, u32 index, struct dentry *dentry,
					  struct vfsmount *mount, u32 end)
{
	u32 before = s->used;

	put_path(s, dentry, mount, end);
	close_text(s, index, before);
	if (s->cut)
		s->act.head.flags |= 1 << index;
}

static __always_inline void put_file_text(struct record_space *s, u32 index, struct file *file, u32 end)
{
	put_path_text(s, index, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt), end);
}

/* Puts a text of the kernel as text `index`; it has SHORT_SPACE. */
static __always_inline void put_kernel_text(struct record_space *s, u32 index, const void *text, u32 end)
{
	u32 used = s->used;
	long n;

	if (!text || used > end - SHORT_SPACE)
		return;
	n = bpf_probe_read_kernel_str(s->data + used, SHORT_SPACE, text);
	if (n <= 0)
		return;
	s->act.text_len[index] = n;
	s->used = used + (u32)n;
}

/* Puts a text of the caller as text `index`; it has TEXT_SPACE. */
static __always_inline void put_user_text(struct record_space *s, u32 index, u64 text, u32 end)
{
	u32 used = s->used;
	long n;

	if (!text || used > end - TEXT_SPACE)
		return;
	n = bpf_probe_read_user_str(s->data + used, TEXT_SPACE, (void *)text);
	if (n <= 0)
		return;
	if (n == TEXT_SPACE)
		s->act.head.flags |= 1 << index;
	s->act.text_len[index] = n;
	s->used = used + (u32)n;
}

static __always_inline bool is_error(s64 result)
{
	return result < 0 && result >= -4095;
}

#endif
