// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Calls that name a file: removing, renaming and linking it, making directories and
 * nodes, and setting attributes.
 *
 * They are looked at when they have ended. The path is then still where the caller
 * put it, and the kernel has just read it. Those that are given a descriptor have the
 * kernel's own path, and what stood there before from the call's beginning.
 */
#include "file.h"

/* asm/unistd_64.h */
#define NR_rename 82
#define NR_mkdir 83
#define NR_rmdir 84
#define NR_link 86
#define NR_unlink 87
#define NR_symlink 88
#define NR_chmod 90
#define NR_fchmod 91
#define NR_chown 92
#define NR_fchown 93
#define NR_lchown 94
#define NR_truncate 76
#define NR_ftruncate 77
#define NR_utime 132
#define NR_mknod 133
#define NR_setxattr 188
#define NR_lsetxattr 189
#define NR_fsetxattr 190
#define NR_removexattr 197
#define NR_lremovexattr 198
#define NR_fremovexattr 199
#define NR_utimes 235
#define NR_mkdirat 258
#define NR_mknodat 259
#define NR_fchownat 260
#define NR_futimesat 261
#define NR_unlinkat 263
#define NR_renameat 264
#define NR_linkat 265
#define NR_symlinkat 266
#define NR_fchmodat 268
#define NR_utimensat 280
#define NR_renameat2 316
#define NR_fchmodat2 452
#define NR_setxattrat 463
#define NR_removexattrat 466

#define ONE_PATH (GIVEN_SPACE + TREE_SPACE)
#define TWO_PATHS TREES_END

/* Success, or refused for lack of rights: someone tried. */
static __always_inline bool is_told(s64 result)
{
	return result >= 0 || result == -EPERM || result == -EACCES;
}

static __noinline int named(struct record_space *s, u32 text, s32 dir, u64 pointer, u32 end)
{
	put_named(s, text, dir, pointer, end);
	return 0;
}

static __always_inline int deleted(s64 result, s32 dir, u64 path, bool is_dir)
{
	struct record_space *s;

	if (!is_told(result))
		return 0;
	s = begin_act(ACT_FILE_DELETE, COUNT_FILE_DELETE);
	if (!s)
		return 0;
	s->act.result = (s32)result;
	s->act.numbers[FILE_NEW] = is_dir;
	named(s, 0, dir, path, ONE_PATH);
	end_act(s, COUNT_FILE_DELETE, false);
	return 0;
}

SEC("tracepoint")
int exit_delete(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	if (ctx->number == NR_unlinkat)
		return deleted(ctx->result, regs->di, regs->si, regs->dx & AT_REMOVEDIR);
	return deleted(ctx->result, AT_FDCWD, regs->di, ctx->number == NR_rmdir);
}

/* Two names: the file has the one, and gets the other. */
static __noinline int put_two(struct record_space *s, s32 old_dir, u64 old, s32 new_dir, u64 new)
{
	u32 at;

	named(s, 0, old_dir, old, ONE_PATH);
	at = s->used;
	if (old_dir != new_dir || !s->act.text_len[1] || !put_given(s, 2, new, TWO_PATHS - TREE_SPACE)) {
		named(s, 2, new_dir, new, TWO_PATHS);
		return 0;
	}
	if (at < DATA_SPACE && s->data[at] == '/')
		put_base(s, 3, '/', new_dir, TWO_PATHS);
	else
		s->act.numbers[FILE_KNOWN] |= KNOWN_SAME_BASE;
	return 0;
}

static __always_inline int renamed(s64 result, s32 old_dir, u64 old, s32 new_dir, u64 new, u32 flags)
{
	struct record_space *s;

	if (!is_told(result))
		return 0;
	s = begin_act(ACT_FILE_RENAME, COUNT_FILE_RENAME);
	if (!s)
		return 0;
	s->act.result = (s32)result;
	s->act.numbers[FILE_NEW] = flags;
	put_two(s, old_dir, old, new_dir, new);
	end_act(s, COUNT_FILE_RENAME, false);
	return 0;
}

SEC("tracepoint")
int exit_rename(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	if (ctx->number == NR_rename)
		return renamed(ctx->result, AT_FDCWD, regs->di, AT_FDCWD, regs->si, 0);
	return renamed(ctx->result, regs->di, regs->si, regs->dx, regs->r10,
		       ctx->number == NR_renameat2 ? regs->r8 : 0);
}

static __noinline int linked(s64 result, s32 old_dir, u64 old, s32 new_dir, u64 new)
{
	struct record_space *s;

	if (result < 0)
		return 0;
	s = begin_act(ACT_FILE_LINK, COUNT_FILE_LINK);
	if (!s)
		return 0;
	put_two(s, old_dir, old, new_dir, new);
	end_act(s, COUNT_FILE_LINK, false);
	return 0;
}

static __noinline int linked_by_name(s64 result, u64 to, s32 dir, u64 path)
{
	struct record_space *s;

	if (result < 0)
		return 0;
	s = begin_act(ACT_FILE_SYMLINK, COUNT_FILE_LINK);
	if (!s)
		return 0;
	put_given(s, 0, to, ONE_PATH);
	named(s, 2, dir, path, TWO_PATHS);
	end_act(s, COUNT_FILE_LINK, false);
	return 0;
}

SEC("tracepoint")
int exit_link(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	switch (ctx->number) {
	case NR_link:
		return linked(ctx->result, AT_FDCWD, regs->di, AT_FDCWD, regs->si);
	case NR_linkat:
		return linked(ctx->result, regs->di, regs->si, regs->dx, regs->r10);
	case NR_symlink:
		return linked_by_name(ctx->result, regs->di, AT_FDCWD, regs->si);
	}
	return linked_by_name(ctx->result, regs->di, regs->si, regs->dx);
}

static __always_inline int made(u16 type, u32 count_as, s32 dir, u64 path, u64 mode, u64 device)
{
	struct record_space *s = begin_act(type, count_as);

	if (!s)
		return 0;
	s->act.numbers[FILE_NEW] = mode;
	s->act.numbers[FILE_OLD] = device;
	named(s, 0, dir, path, ONE_PATH);
	end_act(s, count_as, false);
	return 0;
}

SEC("tracepoint")
int exit_make(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	bool is_at = ctx->number == NR_mkdirat || ctx->number == NR_mknodat;
	s32 dir = is_at ? (s32)regs->di : AT_FDCWD;
	u64 path = is_at ? regs->si : regs->di;
	u64 mode = is_at ? regs->dx : regs->si;

	if (ctx->result < 0)
		return 0;
	if (ctx->number == NR_mkdir || ctx->number == NR_mkdirat)
		return made(ACT_DIR_CREATE, COUNT_FILE_CREATE, dir, path, mode, 0);
	return made(ACT_NODE_CREATE, (mode & S_IFMT) == S_IFIFO ? COUNT_PIPE_CREATE : COUNT_FILE_CREATE, dir, path,
		    mode, is_at ? regs->r10 : regs->dx);
}

/* The inode behind a descriptor, if it is one of a file or directory that stands somewhere. */
static __always_inline struct inode *standing_inode(struct file *file)
{
	struct inode *inode;
	u32 type;

	if (!file)
		return 0;
	inode = LOOK(file, f_inode);
	type = LOOK(inode, i_mode) & S_IFMT;
	if ((type != S_IFREG && type != S_IFDIR) || !LOOK(inode, i_nlink) || !holds_files(inode))
		return 0;
	return inode;
}

/* Calls with a descriptor: what they are about to change, for their end. */
SEC("tracepoint")
int enter_attribute(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct inode *inode;
	struct call call = {};

	/* With a path, what it names is not known. */
	if (ctx->number == NR_utimensat && ctx->args[1])
		return 0;
	inode = standing_inode(file_of((u32)ctx->args[0]));
	if (!inode)
		return 0;
	switch (ctx->number) {
	case NR_fchmod:
		call.args[0] = LOOK(inode, i_mode);
		break;
	case NR_fchown:
		call.args[0] = owner_of(inode);
		break;
	case NR_utimensat:
		call.args[0] = modified_ns(inode);
		break;
	default:
		call.args[0] = LOOK(inode, i_size);
	}
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
	return 0;
}

static __always_inline void put_attribute_name(struct record_space *s, u64 name)
{
	put_given(s, 2, name, ONE_PATH + GIVEN_SPACE);
}

static __noinline int set_by_path(u16 type, s32 dir, u64 path, u64 value, u64 name)
{
	struct record_space *s = begin_act(type, COUNT_FILE_ATTRIBUTE);

	if (!s)
		return 0;
	s->act.numbers[FILE_NEW] = value;
	named(s, 0, dir, path, ONE_PATH);
	if (name)
		put_attribute_name(s, name);
	end_act(s, COUNT_FILE_ATTRIBUTE, false);
	return 0;
}

static __noinline int set_by_descriptor(u16 type, u32 fd, u64 value, u64 name)
{
	struct file *file = file_of(fd);
	struct inode *inode = standing_inode(file);
	struct record_space *s;
	struct call call;
	bool has_old;

	/* Also where nothing is told, so that it is not there for another call. */
	has_old = !name && take_call(&call);
	if (!inode)
		return 0;
	s = begin_act(type, COUNT_FILE_ATTRIBUTE);
	if (!s)
		return 0;
	s->act.numbers[FILE_NEW] = value;
	put_inode(&s->act, inode);
	if (has_old) {
		s->act.numbers[FILE_OLD] = call.args[0];
		s->act.numbers[FILE_KNOWN] |= KNOWN_OLD;
	}
	put_file_path(s, file);
	if (name)
		put_attribute_name(s, name);
	end_act(s, COUNT_FILE_ATTRIBUTE, false);
	return 0;
}

static __always_inline u64 owner(u64 uid, u64 gid)
{
	return (u32)uid | gid << 32;
}

#define UTIME_NOW 0x3fffffff
#define UTIME_OMIT 0x3ffffffe
#define TIME_NOW (~0ull)

/* The second of two times, in nanoseconds since the epoch; `unit` is that of its
 * fraction. All ones for the present; UTIME_OMIT where it is left as it is. */
static __noinline u64 given_time(u64 pointer, u64 unit)
{
	s64 second[2] = {};

	if (!pointer || bpf_probe_read_user(second, sizeof(second), (void *)(pointer + sizeof(second))))
		return TIME_NOW;
	if (unit == 1 && second[1] == UTIME_OMIT)
		return UTIME_OMIT;
	if (unit == 1 && second[1] == UTIME_NOW)
		return TIME_NOW;
	return (u64)second[0] * 1000000000ull + (u64)second[1] * unit;
}

/* utime(2) has whole seconds only, one behind the other. */
static __always_inline u64 given_seconds(u64 pointer)
{
	s64 times[2] = {};

	if (!pointer || bpf_probe_read_user(times, sizeof(times), (void *)pointer))
		return TIME_NOW;
	return (u64)times[1] * 1000000000ull;
}

SEC("tracepoint")
int exit_attribute(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	u64 first = regs->di, path = regs->di, value = 0, name = 0;
	s32 dir = AT_FDCWD;
	bool by_descriptor = false;
	u16 type;

	if (ctx->result < 0)
		return 0;
	switch (ctx->number) {
	case NR_chmod:
		type = ACT_FILE_MODE;
		value = regs->si;
		break;
	case NR_fchmod:
		type = ACT_FILE_MODE;
		by_descriptor = true;
		value = regs->si;
		break;
	case NR_fchmodat:
	case NR_fchmodat2:
		type = ACT_FILE_MODE;
		dir = first;
		path = regs->si;
		value = regs->dx;
		break;
	case NR_chown:
	case NR_lchown:
		type = ACT_FILE_OWNER;
		value = owner(regs->si, regs->dx);
		break;
	case NR_fchown:
		type = ACT_FILE_OWNER;
		by_descriptor = true;
		value = owner(regs->si, regs->dx);
		break;
	case NR_fchownat:
		type = ACT_FILE_OWNER;
		dir = first;
		path = regs->si;
		value = owner(regs->dx, regs->r10);
		break;
	case NR_utime:
		type = ACT_FILE_TIMES;
		value = given_seconds(regs->si);
		break;
	case NR_utimes:
		type = ACT_FILE_TIMES;
		value = given_time(regs->si, 1000);
		break;
	case NR_futimesat:
	case NR_utimensat:
		type = ACT_FILE_TIMES;
		dir = first;
		path = regs->si;
		by_descriptor = !path;
		value = given_time(regs->dx, ctx->number == NR_utimensat ? 1 : 1000);
		if (value == UTIME_OMIT)
			return 0;
		break;
	case NR_truncate:
		type = ACT_FILE_TRUNCATE;
		value = regs->si;
		break;
	case NR_ftruncate:
		type = ACT_FILE_TRUNCATE;
		by_descriptor = true;
		value = regs->si;
		break;
	case NR_setxattrat:
	case NR_removexattrat:
		type = ACT_FILE_XATTR;
		dir = first;
		path = regs->si;
		name = regs->r10;
		value = ctx->number == NR_removexattrat;
		break;
	default:
		type = ACT_FILE_XATTR;
		by_descriptor = ctx->number == NR_fsetxattr || ctx->number == NR_fremovexattr;
		name = regs->si;
		value = ctx->number >= NR_removexattr && ctx->number <= NR_fremovexattr;
	}
	if (by_descriptor)
		return set_by_descriptor(type, first, value, name);
	return set_by_path(type, dir, path, value, name);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
