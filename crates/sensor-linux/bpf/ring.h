/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What every object of programs has: the way into the one ring, its counters, and
 * how paths are walked. Each hook family is an object of its own (NAME.bpf.c), so
 * that one which a kernel refuses does not take the others with it; the loader
 * makes them share these maps.
 */
#ifndef RAMPART_RING_H
#define RAMPART_RING_H

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
/* What the search for variables looks at in one go, and how far it may look behind it. */
#define SEARCH_STEP 64u
#define SEARCH_SPACE (SEARCH_STEP + 16u)
/* Behind all that, 4 KiB and a little: an environment finds more where the others are
 * short. The kernel allows 32 KiB for all. */
#define DATA_SPACE (CGROUP_END + TTY_SPACE + FILENAME_SPACE + ARGS_MAX + 4096 + SEARCH_SPACE)

#define WAKE_BYTES 65536u

/* Where a record is put together. Each CPU has one in each object; programs of one
 * object must not interrupt each other (a tracepoint that also fires in interrupts
 * belongs into an object without others, or builds its record on the stack). */
struct record_space {
	union {
		struct exec_record exec;
		/* What is shorter ends where the data begins, as that is sent behind it. */
		struct {
			u8 before_act[sizeof(struct exec_record) - sizeof(struct act_record)];
			struct act_record act;
		};
	};
	u8 data[DATA_SPACE];
	/* Behind what is sent: how much of `data` is used. In memory and not in a
	 * register, so that the verifier sees one state for all lengths. */
	u32 used;
	u32 cut;
};

_Static_assert(__builtin_offsetof(struct record_space, act) + sizeof(struct act_record) ==
		       __builtin_offsetof(struct record_space, data),
	       "an act's texts stand right behind it");
_Static_assert(__builtin_offsetof(struct record_space, exec) + sizeof(struct exec_record) ==
		       __builtin_offsetof(struct record_space, data),
	       "so do an exec's");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct record_space);
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

/* Producer position at the last wake-up; a reader sets it far back to be woken by the next
 * record. In a race a wake-up comes earlier or not at all: no reader waits for one alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} woken SEC(".maps");

/* A field behind an address. Since 6.2 an address can be given its type back, so that
 * the field is read directly and not by a call for each. */
#define LOOK(pointer, field) \
	({ \
		typeof(pointer) at_ = (pointer); \
		bpf_ksym_exists(bpf_rdonly_cast) ? bpf_core_cast(at_, typeof(*at_))->field : BPF_CORE_READ(at_, field); \
	})

/* Programs in interrupts count beside the one that they interrupted. */
static __always_inline void count_lost(u32 count_as, u64 acts)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, &count_as);

	if (counter)
		__sync_fetch_and_add(&counter->lost, acts);
}

/* Whether a record of this kind, standing for so many acts, is to be made now. Those
 * that are not are counted. */
static __always_inline bool are_wanted(u32 count_as, u64 acts)
{
	u32 zero = 0;
	struct control *settings = bpf_map_lookup_elem(&control, &zero);
	struct counter *counter;

	if (!settings || !(settings->left_out & (1ull << count_as)))
		return true;
	counter = bpf_map_lookup_elem(&counters, &count_as);
	if (counter)
		__sync_fetch_and_add(&counter->left_out, acts);
	return false;
}

static __always_inline bool is_wanted(u32 count_as)
{
	return are_wanted(count_as, 1);
}

/* Sends a record that stands for so many acts. */
static __always_inline void send_acts(void *record, u64 size, u32 count_as, u64 acts, bool at_once)
{
	u64 produced = bpf_ringbuf_query(&ring, BPF_RB_PROD_POS);
	u64 flags = BPF_RB_NO_WAKEUP;
	struct counter *counter;
	u32 zero = 0;
	u64 *woken_at = bpf_map_lookup_elem(&woken, &zero);

	if (!woken_at)
		return;
	if (at_once || produced - *woken_at >= WAKE_BYTES) {
		flags = BPF_RB_FORCE_WAKEUP;
		*woken_at = produced;
	}
	counter = bpf_map_lookup_elem(&counters, &count_as);
	if (!counter)
		return;
	if (bpf_ringbuf_output(&ring, record, size, flags))
		__sync_fetch_and_add(&counter->lost, acts);
	else
		__sync_fetch_and_add(&counter->produced, acts);
}

static __always_inline void send(void *record, u64 size, u32 count_as, bool at_once)
{
	send_acts(record, size, count_as, 1, at_once);
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
static __always_inline bool put_name(struct record_space *s, const void *name, u32 end)
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
static __always_inline void put_path(struct record_space *s, struct dentry *dentry, struct vfsmount *vfsmount, u32 end)
{
	struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
	struct dentry *mount_root = LOOK(vfsmount, mnt_root);

	s->cut = 1;
	for (int i = 0; i < DEPTH_MAX; i++) {
		struct dentry *parent;

		if (dentry == mount_root) {
			struct mount *parent_mount = LOOK(mount, mnt_parent);

			if (parent_mount == mount) {
				s->cut = 0;
				return;
			}
			dentry = LOOK(mount, mnt_mountpoint);
			mount = parent_mount;
			mount_root = LOOK(mount, mnt.mnt_root);
			continue;
		}
		parent = LOOK(dentry, d_parent);
		if (!put_name(s, LOOK(dentry, d_name.name), end))
			return;
		if (parent == dentry) {
			/* Outside of every tree, as a memfd is. */
			s->cut = 0;
			return;
		}
		dentry = parent;
	}
}

#endif
