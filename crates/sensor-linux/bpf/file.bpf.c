// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * What processes make and write: files that an open made, files that were open for
 * writing and were written, and devices opened past the file system.
 *
 * An open is looked at when it has succeeded, by its descriptor: path, inode and
 * whether it made the file are then the kernel's own word.
 *
 * A file is told as written when a descriptor goes that may be the last: by close and
 * its relatives, by exec, or with its process. A file that this open made has been
 * written if it is not empty. For others, what they were at the open is kept and
 * compared. These programs stand before the call, which may still fail, so what was
 * told becomes the next state to compare with and is never forgotten.
 */
#include "file.h"

#define FMODE_READ 0x1
#define FMODE_CREATED 0x100000

#define O_TRUNC 01000

#define O_CLOEXEC 02000000

#define CLOSE_RANGE_UNSHARE 2

#define EEXIST 17

#define KCORE_MODE (S_IFREG | 0400)
#define MEM_MAJOR 1
#define MEM_MINORS ((1 << 1) | (1 << 2) | (1 << 4)) /* mem, kmem, port */

#define SECOND 1000000000ull
/* A span is 1,024 ticks of the kernel's clock, that is 1 to 10 seconds: unlike the time, they
 * cost nothing to ask for. A closing takes no more of them from our look at it to its end. */
#define SPAN_BITS 10
#define LEAVING_SPANS 4
/* So many may let a file go within the microsecond that each of them takes. */
#define AT_ONCE_MAX 4

#define AS_IT_WAS 0
#define MADE 1      /* by this open: told once it is not empty */
#define TRUNCATED 2 /* by this open: told in any case */

/* What a file that is open for writing was when it was told last, or else when it was
 * opened; by the address of its struct file. */
struct session {
	u64 inode;
	s64 size;
	u64 modified_ns;
	s64 position;
	u64 leaving;    /* the span in which it was let go while others held it << 16 | how often, of late */
	u32 told_early; /* the span in which it was told for that */
	u32 opened;     /* AS_IT_WAS, MADE or TRUNCATED, until that is told */
};

/* No LRU map: that one drops entries in silence. An entry ends when its address is
 * needed for another file, or when room is made. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct session);
} sessions SEC(".maps");

/* Room is made there in somebody's call, so not all entries are looked at in one go: whoever
 * holds as many files open would make each look a long one and none of use. */
#define SLICE 16384

struct sweep {
	u64 at_ns; /* the last one */
	u64 from;  /* entries that it left behind it */
	u64 skip;
	u64 looks;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct sweep);
} sessions_swept SEC(".maps");

#define WORDS_MAX 64u
#define ENDING_MAX 64u

/* Files that were written and that a walk through the table of descriptors found
 * ending. */
struct ending {
	struct files_struct *files;
	u32 from;
	u32 to;
	u32 at_exec;
	u32 for_sure; /* nobody else has the table, and the call can't fail */
	u32 count;
	struct file *found[ENDING_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ending);
} endings SEC(".maps");

static __noinline int tell_created(struct file *file, struct inode *inode)
{
	struct record_space *s = begin_act(ACT_FILE_CREATE, COUNT_FILE_CREATE);

	if (!s)
		return 0;
	put_inode(&s->act, inode);
	put_file_path(s, file);
	end_act(s, COUNT_FILE_CREATE, false);
	return 0;
}

static __noinline int tell_raw_access(struct file *file, struct inode *inode)
{
	struct record_space *s = begin_act(ACT_RAW_ACCESS, COUNT_RAW_ACCESS_READ);

	if (!s)
		return 0;
	put_inode(&s->act, inode);
	s->act.numbers[FILE_NEW] = LOOK(inode, i_rdev);
	s->act.numbers[FILE_OLD] = LOOK(file, f_mode) & (FMODE_READ | FMODE_WRITE);
	put_file_path(s, file);
	end_act(s, COUNT_RAW_ACCESS_READ, false);
	return 0;
}

static __always_inline bool is_kcore(struct file *file, struct inode *inode)
{
	const char *name = (void *)LOOK(LOOK(file, f_path.dentry), d_name.name);
	char is[6] = {};

	if ((u32)LOOK(LOOK(inode, i_sb), s_magic) != PROC_SUPER_MAGIC)
		return false;
	bpf_probe_read_kernel_str(is, sizeof(is), name);
	return is[0] == 'k' && is[1] == 'c' && is[2] == 'o' && is[3] == 'r' && is[4] == 'e' && is[5] == 0;
}

static __always_inline bool is_memory_device(struct inode *inode)
{
	u32 device = LOOK(inode, i_rdev);
	u32 minor = device & 0xfffff;

	return device >> 20 == MEM_MAJOR && minor < 8 && (MEM_MINORS & (1 << minor));
}

/* How many hold an open file: descriptors, and calls that use it just now. */
static __always_inline s64 holders(struct file *file)
{
	struct file___counted *counted = (void *)file;

	if (bpf_core_field_exists(file->f_ref))
		return LOOK(file, f_ref.refcnt.counter) + 1;
	return LOOK(counted, f_count.counter);
}

/* Gives up what is kept of a file that is open no more. The callbacks of loops are given a
 * place on the stack. */
static long sweep_session(void *map, u64 *key, struct session *session, struct sweep **place_of_sweep)
{
	struct sweep *sweep = *place_of_sweep;
	struct file *file = (void *)*key;
	u64 own = *key;

	if (sweep->skip) {
		sweep->skip--;
		return 0;
	}
	if (!sweep->looks)
		return 1;
	sweep->looks--;
	if (holders(file) <= 0 || LOOK(LOOK(file, f_inode), i_ino) != session->inode)
		bpf_map_delete_elem(map, &own);
	else
		sweep->from++;
	return 0;
}

static __always_inline void sweep_sessions(struct sweep *sweep, u64 now)
{
	sweep->at_ns = now;
	sweep->skip = sweep->from;
	sweep->looks = SLICE;
	bpf_for_each_map_elem(&sessions, sweep_session, &sweep, 0);
	/* It came to the end. */
	if (sweep->looks)
		sweep->from = 0;
}

/* Returns -EEXIST for BPF_NOEXIST where another CPU was faster. */
static __noinline int keep_session(u64 key, struct session *session, u64 how)
{
	struct sweep *sweep;
	u32 zero = 0;
	long error;
	u64 now;

	if (!session)
		return 0;
	error = bpf_map_update_elem(&sessions, &key, session, how);
	if (!error || error == -EEXIST)
		return error;
	now = bpf_ktime_get_boot_ns();
	sweep = bpf_map_lookup_elem(&sessions_swept, &zero);
	if (sweep && now - sweep->at_ns > SECOND) {
		sweep_sessions(sweep, now);
		error = bpf_map_update_elem(&sessions, &key, session, how);
		if (!error || error == -EEXIST)
			return error;
	}
	/* What is written to it may not be seen. */
	count_lost(COUNT_FILE_MODIFY, 1);
	return 0;
}

/* From now on, this is what the file is compared with. */
static __always_inline void set_state(struct session *session, struct file *file, struct inode *inode)
{
	session->inode = LOOK(inode, i_ino);
	session->size = LOOK(inode, i_size);
	session->modified_ns = modified_ns(inode);
	session->position = LOOK(file, f_pos);
	session->opened = AS_IT_WAS;
}

static __always_inline bool only_writes(struct file *file)
{
	return !(LOOK(file, f_mode) & FMODE_READ);
}

static __always_inline bool is_changed(struct session *session, struct file *file, struct inode *inode)
{
	if (session->opened == MADE)
		return LOOK(inode, i_size) != 0;
	return session->opened == TRUNCATED || session->size != LOOK(inode, i_size) ||
	       session->modified_ns != modified_ns(inode) ||
	       (only_writes(file) && session->position != LOOK(file, f_pos));
}

/* An open has ended with this result. */
static __always_inline int opened(s64 fd, u64 flags)
{
	struct file *file;
	struct inode *inode;
	u32 f_mode, mode;
	u64 key;
	struct session session = {}, *known;

	file = file_of(fd);
	f_mode = LOOK(file, f_mode);
	if (!(f_mode & (FMODE_READ | FMODE_WRITE)))
		return 0;
	inode = LOOK(file, f_inode);
	mode = LOOK(inode, i_mode);
	if ((mode & S_IFMT) != S_IFREG) {
		if ((mode & S_IFMT) == S_IFBLK || ((mode & S_IFMT) == S_IFCHR && is_memory_device(inode)))
			tell_raw_access(file, inode);
		return 0;
	}
	if (!(f_mode & FMODE_WRITE)) {
		if (mode == KCORE_MODE && is_kcore(file, inode))
			tell_raw_access(file, inode);
		return 0;
	}
	if (!holds_files(inode))
		return 0;
	key = (u64)file;
	known = bpf_map_lookup_elem(&sessions, &key);
	if (f_mode & FMODE_CREATED) {
		/* What is kept there is of a file that is open no more. */
		if (known)
			bpf_map_delete_elem(&sessions, &key);
		tell_created(file, inode);
		return 0;
	}
	set_state(&session, file, inode);
	if (flags & O_TRUNC)
		session.opened = TRUNCATED;
	if (known)
		*known = session;
	else
		keep_session(key, &session, BPF_ANY);
	return 0;
}

/* Whether the file may be let go by others at this moment, each of whom sees the rest:
 * as many have let it go of late as hold it. That is told at most once in a span, as a
 * file that others have inherited would be with each of them. Not static, so that the
 * kernel checks it once and not at each call. */
__noinline int is_left_by_all(u64 key, s64 held)
{
	struct file *file = (void *)key;
	struct inode *inode = LOOK(file, f_inode);
	u64 span = bpf_jiffies64() >> SPAN_BITS, before, left;
	struct session *session = bpf_map_lookup_elem(&sessions, &key), made = {};

	if (!session || session->inode != LOOK(inode, i_ino)) {
		if (!(LOOK(file, f_mode) & FMODE_CREATED))
			return 0;
		made.inode = LOOK(inode, i_ino);
		made.opened = MADE;
		made.leaving = span << 16 | 1;
		if (keep_session(key, &made, session ? BPF_ANY : BPF_NOEXIST) != -EEXIST)
			return 0;
		session = bpf_map_lookup_elem(&sessions, &key);
		if (!session)
			return 0;
	}
	before = session->leaving;
	left = span - (before >> 16) > LEAVING_SPANS ? 1 : (before & 0xffff) + 1;
	/* Who lets it go at this very moment. */
	if (__sync_val_compare_and_swap(&session->leaving, before, span << 16 | (left & 0xffff)) != before)
		left = held;
	if ((s64)left < held || session->told_early == (u32)span || !is_changed(session, file, inode))
		return 0;
	session->told_early = span;
	return 1;
}

/* Whether nothing but this descriptor holds the file; or it is written through memory,
 * whose end is not seen. */
static __always_inline bool may_be_last(struct file *file, struct inode *inode)
{
	s64 held = holders(file);

	if (held > AT_ONCE_MAX)
		return LOOK(LOOK(inode, i_mapping), i_mmap_writable.counter) > 0;
	return held <= 1 || LOOK(LOOK(inode, i_mapping), i_mmap_writable.counter) > 0 || is_left_by_all((u64)file, held);
}

static __noinline int tell_modified(struct file *file, struct inode *inode, u64 old_size, u32 known)
{
	struct record_space *s = begin_act(ACT_FILE_MODIFY, COUNT_FILE_MODIFY);

	if (!s)
		return 0;
	put_inode(&s->act, inode);
	s->act.numbers[FILE_OLD] = old_size;
	s->act.numbers[FILE_KNOWN] |= known;
	put_file_path(s, file);
	end_act(s, COUNT_FILE_MODIFY, false);
	return 0;
}

/* A file that was open for writing is about to be let go, perhaps. Not static either. */
__noinline int written(u64 key, u32 for_sure)
{
	struct file *file = (void *)key;
	struct inode *inode = LOOK(file, f_inode);
	struct session *session = bpf_map_lookup_elem(&sessions, &key), told = {};

	if (session && session->inode == LOOK(inode, i_ino)) {
		u32 opened = session->opened;
		u64 size = session->size;

		if (!is_changed(session, file, inode))
			return 0;
		set_state(session, file, inode);
		tell_modified(file, inode, opened == AS_IT_WAS ? size : 0, opened == TRUNCATED ? 0 : KNOWN_OLD);
		return 0;
	}
	if (LOOK(file, f_mode) & FMODE_CREATED) {
		if (!LOOK(inode, i_size))
			return 0;
		tell_modified(file, inode, 0, KNOWN_OLD);
	} else if (only_writes(file) && LOOK(file, f_pos)) {
		/* Opened before anyone watched. */
		tell_modified(file, inode, 0, 0);
	} else {
		return 0;
	}
	if (!for_sure) {
		set_state(&told, file, inode);
		keep_session(key, &told, BPF_ANY);
	}
	return 0;
}

static __always_inline bool is_written_and_ending(struct file *file)
{
	struct inode *inode;

	if (!file || !(LOOK(file, f_mode) & FMODE_WRITE))
		return false;
	inode = LOOK(file, f_inode);
	return (LOOK(inode, i_mode) & S_IFMT) == S_IFREG && holds_files(inode) && may_be_last(file, inode);
}

static __always_inline int closing(u64 fd, bool for_sure)
{
	struct file *file = file_of(fd);

	if (is_written_and_ending(file))
		written((u64)file, for_sure);
	return 0;
}

static int look_at_word(u32 word, struct ending **place_of_ending)
{
	struct ending *ending = *place_of_ending;
	struct files_struct *of_process = ending->files;
	struct fdtable *table = LOOK(of_process, fdt);
	unsigned long *place = LOOK(table, open_fds);
	struct file **files = LOOK(table, fd);
	u64 open = 0, closing = 0;
	u32 at = word * 64;

	if (bpf_probe_read_kernel(&open, sizeof(open), place + word))
		return 1;
	if (open && ending->at_exec) {
		place = LOOK(table, close_on_exec);
		bpf_probe_read_kernel(&closing, sizeof(closing), place + word);
		open &= closing;
	}
	for (int bit = 0; bit < 64; bit++) {
		struct file *file = 0;
		u32 fd = at + bit, count;

		if (!open)
			break;
		if ((open & 1) && fd >= ending->from && fd <= ending->to) {
			bpf_probe_read_kernel(&file, sizeof(file), files + fd);
			if (is_written_and_ending(file)) {
				count = ending->count;
				if (count < ENDING_MAX)
					ending->found[count] = file;
				ending->count = count + 1;
			}
		}
		open >>= 1;
	}
	return 0;
}

static int tell_ending(u32 index, struct ending **place_of_ending)
{
	struct ending *ending = *place_of_ending;

	if (index >= ENDING_MAX)
		return 1;
	written((u64)ending->found[index], ending->for_sure);
	return 0;
}

/* The current process lets go the descriptors from one to another. Where others have
 * its table, too, they may do so at the same moment, so they are no reason not to look. */
static __always_inline int closing_many(u32 from, u32 to, bool at_exec, bool for_sure)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct files_struct *files = task->files;
	struct ending *ending;
	u32 zero = 0, words;

	ending = bpf_map_lookup_elem(&endings, &zero);
	if (!ending || !files)
		return 0;
	ending->files = files;
	ending->from = from;
	ending->to = to;
	ending->at_exec = at_exec;
	ending->for_sure = for_sure && files->count.counter == 1;
	ending->count = 0;
	words = files->fdt->max_fds / 64;
	if (words > WORDS_MAX)
		words = WORDS_MAX;
	bpf_loop(words, look_at_word, &ending, 0);
	if (ending->count > ENDING_MAX) {
		count_lost(COUNT_FILE_MODIFY, ending->count - ENDING_MAX);
		ending->count = ENDING_MAX;
	}
	if (ending->count)
		bpf_loop(ending->count, tell_ending, &ending, 0);
	return 0;
}

/* asm/unistd_64.h */
#define NR_open 2
#define NR_close 3
#define NR_creat 85
#define NR_dup3 292
#define NR_openat2 437

/* At openat, open, creat, openat2 and open_by_handle_at (src/families.rs). */
SEC("tracepoint")
int exit_open(struct exit_args *ctx)
{
	struct pt_regs *regs;
	u64 flags;

	if (ctx->result < 0)
		return 0;
	regs = call_regs();
	flags = regs->dx;
	switch (ctx->number) {
	case NR_open:
		flags = regs->si;
		break;
	case NR_creat:
		flags = O_TRUNC;
		break;
	case NR_openat2:
		/* The first member of struct open_how. */
		bpf_probe_read_user(&flags, sizeof(flags), (void *)flags);
	}
	return opened(ctx->result, flags);
}

/* At close, and at dup2 and dup3, which give a descriptor another file. */
SEC("tracepoint")
int enter_close(struct enter_args *ctx)
{
	u32 fd = ctx->args[0];

	if (ctx->number != NR_close) {
		struct pt_regs *regs = call_regs();

		/* What fails, or does nothing. */
		if (fd == (u32)regs->si || !file_of(fd) || (ctx->number == NR_dup3 && (regs->dx & ~O_CLOEXEC)))
			return 0;
		fd = regs->si;
	}
	return closing(fd, ctx->number == NR_close);
}

SEC("tracepoint/syscalls/sys_enter_close_range")
int enter_close_range(struct enter_args *ctx)
{
	/* With CLOSE_RANGE_CLOEXEC nothing is closed now, with what is not known nothing at all. */
	if ((u32)ctx->args[2] & ~CLOSE_RANGE_UNSHARE)
		return 0;
	return closing_many((u32)ctx->args[0], (u32)ctx->args[1], false, false);
}

/* The descriptors that exec closes. Before 6.11 there is no place to see that. */
SEC("tp_btf/sched_prepare_exec")
int files_at_exec(u64 *ctx)
{
	(void)ctx;
	return closing_many(0, ~0u, true, true);
}

/* Processes whose files were told at their end, where two threads may both be the last. */
struct ended_process {
	u64 start_ns;
	u64 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ended_process);
	__type(value, u8);
} files_told SEC(".maps");

/* Whether a thread of the process has ended before: the time that it ran was added up here. One that ran for
 * less than the kernel measures is overlooked; its file is then looked at a second time. */
static __always_inline bool had_threads(struct signal_struct *signal)
{
	return !bpf_core_field_exists(signal->sum_sched_runtime) || signal->sum_sched_runtime;
}

SEC("tp_btf/sched_process_exit")
int files_at_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct task_struct *leader = task->group_leader;
	struct signal_struct *signal = task->signal;
	struct ended_process key = { .start_ns = leader->start_boottime, .pid = leader->tgid };
	struct files_struct *files = task->files;
	u8 mark = 1;

	if ((task->flags & PF_KTHREAD) || !files)
		return 0;
	/* A thread ends with a table of its own where it left that of the others. */
	if (signal->live.counter != 0)
		return files->count.counter == 1 ? closing_many(0, ~0u, false, true) : 0;
	/* `live` fell to 0 with one thread, but a second that ended at the same moment may
	 * also see the 0 here. The first of them leaves its mark; it may be gone by the
	 * time the second comes, which is then the only one. */
	if (signal->nr_threads > 1 || task != leader) {
		if (bpf_map_update_elem(&files_told, &key, &mark, BPF_NOEXIST))
			return 0;
	} else if (had_threads(signal) && bpf_map_lookup_elem(&files_told, &key)) {
		return 0;
	}
	return closing_many(0, ~0u, false, true);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
