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

SEC("tracepoint/syscalls/sys_exit_unlink")
int exit_unlink(struct exit_args *ctx)
{
	return deleted(ctx->result, AT_FDCWD, call_regs()->di, false);
}

SEC("tracepoint/syscalls/sys_exit_unlinkat")
int exit_unlinkat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return deleted(ctx->result, regs->di, regs->si, regs->dx & AT_REMOVEDIR);
}

SEC("tracepoint/syscalls/sys_exit_rmdir")
int exit_rmdir(struct exit_args *ctx)
{
	return deleted(ctx->result, AT_FDCWD, call_regs()->di, true);
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

SEC("tracepoint/syscalls/sys_exit_rename")
int exit_rename(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return renamed(ctx->result, AT_FDCWD, regs->di, AT_FDCWD, regs->si, 0);
}

SEC("tracepoint/syscalls/sys_exit_renameat")
int exit_renameat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return renamed(ctx->result, regs->di, regs->si, regs->dx, regs->r10, 0);
}

SEC("tracepoint/syscalls/sys_exit_renameat2")
int exit_renameat2(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return renamed(ctx->result, regs->di, regs->si, regs->dx, regs->r10, regs->r8);
}

static __always_inline int linked(s64 result, s32 old_dir, u64 old, s32 new_dir, u64 new)
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

SEC("tracepoint/syscalls/sys_exit_link")
int exit_link(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return linked(ctx->result, AT_FDCWD, regs->di, AT_FDCWD, regs->si);
}

SEC("tracepoint/syscalls/sys_exit_linkat")
int exit_linkat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return linked(ctx->result, regs->di, regs->si, regs->dx, regs->r10);
}

static __always_inline int linked_by_name(s64 result, u64 to, s32 dir, u64 path)
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

SEC("tracepoint/syscalls/sys_exit_symlink")
int exit_symlink(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return linked_by_name(ctx->result, regs->di, AT_FDCWD, regs->si);
}

SEC("tracepoint/syscalls/sys_exit_symlinkat")
int exit_symlinkat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return linked_by_name(ctx->result, regs->di, regs->si, regs->dx);
}

static __always_inline int made(s64 result, u16 type, u32 count_as, s32 dir, u64 path, u64 mode, u64 device)
{
	struct record_space *s;

	if (result < 0)
		return 0;
	s = begin_act(type, count_as);
	if (!s)
		return 0;
	s->act.numbers[FILE_NEW] = mode;
	s->act.numbers[FILE_OLD] = device;
	named(s, 0, dir, path, ONE_PATH);
	end_act(s, count_as, false);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mkdir")
int exit_mkdir(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return made(ctx->result, ACT_DIR_CREATE, COUNT_FILE_CREATE, AT_FDCWD, regs->di, regs->si, 0);
}

SEC("tracepoint/syscalls/sys_exit_mkdirat")
int exit_mkdirat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return made(ctx->result, ACT_DIR_CREATE, COUNT_FILE_CREATE, regs->di, regs->si, regs->dx, 0);
}

static __always_inline int made_node(s64 result, s32 dir, u64 path, u64 mode, u64 device)
{
	u32 count_as = (mode & S_IFMT) == S_IFIFO ? COUNT_PIPE_CREATE : COUNT_FILE_CREATE;

	return made(result, ACT_NODE_CREATE, count_as, dir, path, mode, device);
}

SEC("tracepoint/syscalls/sys_exit_mknod")
int exit_mknod(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return made_node(ctx->result, AT_FDCWD, regs->di, regs->si, regs->dx);
}

SEC("tracepoint/syscalls/sys_exit_mknodat")
int exit_mknodat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	return made_node(ctx->result, regs->di, regs->si, regs->dx, regs->r10);
}

/* The inode behind a descriptor, if it is one of a file or directory that stands somewhere. */
static __always_inline struct inode *standing_inode(struct file *file)
{
	struct inode *inode;
	u32 type;

	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	type = BPF_CORE_READ(inode, i_mode) & S_IFMT;
	if ((type != S_IFREG && type != S_IFDIR) || !BPF_CORE_READ(inode, i_nlink) || !holds_files(inode))
		return 0;
	return inode;
}

/* What the call is about to change, for its end. */
static __always_inline int keep_old(struct enter_args *ctx, u16 type)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct inode *inode = standing_inode(file_of((u32)ctx->args[0]));
	struct call call = {};

	if (!inode)
		return 0;
	if (type == ACT_FILE_MODE)
		call.args[0] = BPF_CORE_READ(inode, i_mode);
	else if (type == ACT_FILE_OWNER)
		call.args[0] = owner_of(inode);
	else if (type == ACT_FILE_TIMES)
		call.args[0] = modified_ns(inode);
	else
		call.args[0] = BPF_CORE_READ(inode, i_size);
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

#define ON_SUCCESS(ctx) \
	if ((ctx)->result < 0) \
		return 0

SEC("tracepoint/syscalls/sys_exit_chmod")
int exit_chmod(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_path(ACT_FILE_MODE, AT_FDCWD, regs->di, regs->si, 0);
}

SEC("tracepoint/syscalls/sys_exit_fchmodat")
int exit_fchmodat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_path(ACT_FILE_MODE, regs->di, regs->si, regs->dx, 0);
}

SEC("tracepoint/syscalls/sys_exit_fchmodat2")
int exit_fchmodat2(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_path(ACT_FILE_MODE, regs->di, regs->si, regs->dx, 0);
}

SEC("tracepoint/syscalls/sys_enter_fchmod")
int enter_fchmod(struct enter_args *ctx)
{
	return keep_old(ctx, ACT_FILE_MODE);
}

SEC("tracepoint/syscalls/sys_exit_fchmod")
int exit_fchmod(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_descriptor(ACT_FILE_MODE, regs->di, regs->si, 0);
}

static __always_inline u64 owner(u64 uid, u64 gid)
{
	return (u32)uid | gid << 32;
}

SEC("tracepoint/syscalls/sys_exit_chown")
int exit_chown(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_path(ACT_FILE_OWNER, AT_FDCWD, regs->di, owner(regs->si, regs->dx), 0);
}

SEC("tracepoint/syscalls/sys_exit_lchown")
int exit_lchown(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_path(ACT_FILE_OWNER, AT_FDCWD, regs->di, owner(regs->si, regs->dx), 0);
}

SEC("tracepoint/syscalls/sys_exit_fchownat")
int exit_fchownat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_path(ACT_FILE_OWNER, regs->di, regs->si, owner(regs->dx, regs->r10), 0);
}

SEC("tracepoint/syscalls/sys_enter_fchown")
int enter_fchown(struct enter_args *ctx)
{
	return keep_old(ctx, ACT_FILE_OWNER);
}

SEC("tracepoint/syscalls/sys_exit_fchown")
int exit_fchown(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_descriptor(ACT_FILE_OWNER, regs->di, owner(regs->si, regs->dx), 0);
}

#define UTIME_NOW 0x3fffffff
#define UTIME_OMIT 0x3ffffffe
#define TIME_NOW (~0ull)

/* The second of two times, in nanoseconds; `unit` is that of its fraction. False where
 * the modification time is left as it is. */
static __always_inline bool given_time(u64 pointer, u64 unit, u64 *time)
{
	s64 second[2] = {};

	*time = TIME_NOW;
	if (!pointer)
		return true;
	if (bpf_probe_read_user(second, sizeof(second), (void *)(pointer + sizeof(second))))
		return true;
	if (unit == 1 && second[1] == UTIME_OMIT)
		return false;
	if (unit == 1 && second[1] == UTIME_NOW)
		return true;
	*time = (u64)second[0] * 1000000000ull + (u64)second[1] * unit;
	return true;
}

SEC("tracepoint/syscalls/sys_exit_utime")
int exit_utime(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	s64 times[2];
	u64 time = TIME_NOW;

	ON_SUCCESS(ctx);
	if (regs->si && !bpf_probe_read_user(times, sizeof(times), (void *)regs->si))
		time = (u64)times[1] * 1000000000ull;
	return set_by_path(ACT_FILE_TIMES, AT_FDCWD, regs->di, time, 0);
}

SEC("tracepoint/syscalls/sys_exit_utimes")
int exit_utimes(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	u64 time;

	ON_SUCCESS(ctx);
	given_time(regs->si, 1000, &time);
	return set_by_path(ACT_FILE_TIMES, AT_FDCWD, regs->di, time, 0);
}

SEC("tracepoint/syscalls/sys_exit_futimesat")
int exit_futimesat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	u64 time;

	ON_SUCCESS(ctx);
	given_time(regs->dx, 1000, &time);
	if (!regs->si)
		return set_by_descriptor(ACT_FILE_TIMES, regs->di, time, 0);
	return set_by_path(ACT_FILE_TIMES, regs->di, regs->si, time, 0);
}

SEC("tracepoint/syscalls/sys_enter_utimensat")
int enter_utimensat(struct enter_args *ctx)
{
	return ctx->args[1] ? 0 : keep_old(ctx, ACT_FILE_TIMES);
}

SEC("tracepoint/syscalls/sys_exit_utimensat")
int exit_utimensat(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	u64 time;

	ON_SUCCESS(ctx);
	if (!given_time(regs->dx, 1, &time))
		return 0;
	if (!regs->si)
		return set_by_descriptor(ACT_FILE_TIMES, regs->di, time, 0);
	return set_by_path(ACT_FILE_TIMES, regs->di, regs->si, time, 0);
}

SEC("tracepoint/syscalls/sys_exit_truncate")
int exit_truncate(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_path(ACT_FILE_TRUNCATE, AT_FDCWD, regs->di, regs->si, 0);
}

SEC("tracepoint/syscalls/sys_enter_ftruncate")
int enter_ftruncate(struct enter_args *ctx)
{
	return keep_old(ctx, ACT_FILE_TRUNCATE);
}

SEC("tracepoint/syscalls/sys_exit_ftruncate")
int exit_ftruncate(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();

	ON_SUCCESS(ctx);
	return set_by_descriptor(ACT_FILE_TRUNCATE, regs->di, regs->si, 0);
}

#define SET 0
#define REMOVED 1

#define XATTR_BY_PATH(call, value) \
	SEC("tracepoint/syscalls/sys_exit_" #call) \
	int exit_##call(struct exit_args *ctx) \
	{ \
		struct pt_regs *regs = call_regs(); \
		ON_SUCCESS(ctx); \
		return set_by_path(ACT_FILE_XATTR, AT_FDCWD, regs->di, value, regs->si); \
	}
#define XATTR_AT(call, value) \
	SEC("tracepoint/syscalls/sys_exit_" #call) \
	int exit_##call(struct exit_args *ctx) \
	{ \
		struct pt_regs *regs = call_regs(); \
		ON_SUCCESS(ctx); \
		return set_by_path(ACT_FILE_XATTR, regs->di, regs->si, value, regs->r10); \
	}
#define XATTR_BY_DESCRIPTOR(call, value) \
	SEC("tracepoint/syscalls/sys_exit_" #call) \
	int exit_##call(struct exit_args *ctx) \
	{ \
		struct pt_regs *regs = call_regs(); \
		ON_SUCCESS(ctx); \
		return set_by_descriptor(ACT_FILE_XATTR, regs->di, value, regs->si); \
	}

XATTR_BY_PATH(setxattr, SET)
XATTR_BY_PATH(lsetxattr, SET)
XATTR_BY_PATH(removexattr, REMOVED)
XATTR_BY_PATH(lremovexattr, REMOVED)
XATTR_AT(setxattrat, SET)
XATTR_AT(removexattrat, REMOVED)
XATTR_BY_DESCRIPTOR(fsetxattr, SET)
XATTR_BY_DESCRIPTOR(fremovexattr, REMOVED)

char LICENSE[] SEC("license") = "Dual MIT/GPL";
