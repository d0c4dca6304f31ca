/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Acts: what the programs besides process.bpf.c tell. Which numbers and texts an
 * act has stands beside its number; src/act/ turns them into fields.
 */
#ifndef RAMPART_ACT_H
#define RAMPART_ACT_H

#include "ring.h"

/* Kinds of files (linux/stat.h). */
#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* target: the traced process; numbers: 0 request. result of the call. */
#define ACT_PTRACE 16
/* target; numbers: 0 address, 1 bytes, 2 whether it wrote. */
#define ACT_PROCESS_VM 17
/* target; numbers: 0 its descriptor. */
#define ACT_PIDFD_GETFD 18
/* target; numbers: 0 the file's mode of opening (FMODE_*). texts: 0 the file's name below /proc/PID. */
#define ACT_PROC_OPEN 19
/* target: itself; numbers: 0 address, 1 bytes, 2 protection, 3 call (CALL_*), 4 backing (BACKED_*).
 * texts: 0 path of the file behind it. */
#define ACT_EXECUTABLE_MEMORY 20
/* target: itself; numbers: 0 option, 1 its first argument. texts: 0 the name that the process now has. */
#define ACT_PRCTL 21
/* numbers: 0 inode, 1 device, 2 what is odd about it (LIBRARY_*). texts: 0 path of the library. */
#define ACT_IMAGE_LOAD 22
/* numbers: 0 flags, 1 inode. texts: 0 name with the kernel's prefix. */
#define ACT_MEMFD_CREATE 23
/* target; numbers: 0 signal. */
#define ACT_SIGNAL 24
/* numbers: 0 call (CALL_*); before 1 uid and euid, 2 suid and gid, 3 egid and sgid, the first in the
 * upper half; after 4 to 6 the same; 7 the call's first argument. */
#define ACT_IDS 25
/* numbers: before 1 effective, 2 permitted, 3 inheritable; after 4 to 6 the same. */
#define ACT_CAPSET 26
/* numbers: 0 flags. texts: 0 target as given, 1 source, 2 type, 3 working directory, a path. */
#define ACT_MOUNT 27
/* numbers: 0 flags. texts: 0 target as given, 3 working directory, a path. */
#define ACT_UMOUNT 28
/* numbers: 0 whether it had no place before. texts: 0 target, a path, 1 source, 2 type; where the
 * kernel's view is not to be had: 0 empty, 3 target as given. */
#define ACT_MOVE_MOUNT 29
/* texts: 0 new root as given, 3 working directory, a path. */
#define ACT_PIVOT_ROOT 30
/* numbers: 0 flags (CLONE_NEW*). */
#define ACT_UNSHARE 31
/* numbers: 0 flags as given, 1 inode of the namespace. texts: 0 its kind. */
#define ACT_SETNS 32
/* target: the child; numbers: 0 flags (CLONE_NEW*). */
#define ACT_CLONE_NAMESPACES 33
/* numbers: 0 command, 1 program type, 2 id, 3 tag, 4 type of link or attachment, 5 expected
 * attachment. texts: 0 name, 1 function or tracepoint. */
#define ACT_BPF 34
/* numbers: 0 call (CALL_*), 1 bytes of the image, 2 signature: 0 not known, 1 none, 2 good.
 * texts: 0 path of the file, 1 module name. */
#define ACT_MODULE 35
/* target: who listens; numbers: 0 whether text 0 is what was asked for. texts: 0 the address's bytes
 * behind the family, 1 the path of the socket's file. */
#define ACT_UNIX_CONNECT 36
/* For all of these: numbers 8 is how many like acts the record stands for; 0 for one. */
#define COUNT_AT 8

#define CALL_MMAP 1
#define CALL_MPROTECT 2
#define CALL_PKEY_MPROTECT 3
#define CALL_SETUID 4
#define CALL_SETREUID 5
#define CALL_SETRESUID 6
#define CALL_SETGID 7
#define CALL_SETREGID 8
#define CALL_SETRESGID 9
#define CALL_INIT_MODULE 10
#define CALL_FINIT_MODULE 11
#define CALL_DELETE_MODULE 12

#define BACKED_BY_NOTHING 1
#define BACKED_BY_FILE 2
#define BACKED_BY_CHANGED_COPY 3

#define LIBRARY_DELETED 1
#define LIBRARY_MEMFD 2
#define LIBRARY_WORLD_WRITABLE 4

/* Network: 96 to 127. numbers of all of them: 0 family | protocol << 16, 1 local port |
 * remote port << 32, 2 and 3 local address, 4 and 5 remote address (IPv4 in the first
 * four bytes), 6 when the connection was opened (its id, too), 7 bytes sent, 8 bytes
 * received. result of the call. */
#define ACT_CONNECT 96
#define ACT_ACCEPT 97
#define ACT_CLOSE 98 /* result: 1 where it had been accepted, 0 where it had been opened */
#define ACT_LISTEN 99
/* text 0: the DNS message, cut after 1,232 bytes. */
#define ACT_DNS_QUERY 100
#define ACT_DNS_ANSWER 101

/* Files: 64 to 95. Numbers 0 to 5 and 8 as file.h names them. Where bit KNOWN_INODE
 * of number 8 is set, text 0 is the path; else text 0 is the path as it was given and
 * text 1 where it begins (a path, empty for the root).
 *
 * number 7: size before, with KNOWN_OLD. */
#define ACT_FILE_CREATE 64
#define ACT_FILE_MODIFY 65
/* number 6: the device; 7: FMODE_READ, FMODE_WRITE. */
#define ACT_RAW_ACCESS 66
/* number 6: 1 for a directory. result. */
#define ACT_FILE_DELETE 67
/* texts 0 and 1: the old path; 2 and 3: the new one. number 6: flags of renameat2. result. */
#define ACT_FILE_RENAME 68
/* texts 0 and 1: the file; 2 and 3: the new link. */
#define ACT_FILE_LINK 69
/* text 0: what it points to; 2 and 3: the link. */
#define ACT_FILE_SYMLINK 70
/* A directory, number 6: mode as asked for. */
#define ACT_DIR_CREATE 71
/* number 6: mode and type as asked for; 7: device. */
#define ACT_NODE_CREATE 72
/* Attributes; number 6: new, 7: old with KNOWN_OLD. Mode; uid and gid << 32 where all
 * ones mean unchanged; modification time in ns since the epoch; size. */
#define ACT_FILE_MODE 73
#define ACT_FILE_OWNER 74
#define ACT_FILE_TIMES 75
#define ACT_FILE_TRUNCATE 76
/* text 2: name of the attribute; number 6: 1 where it was removed. */
#define ACT_FILE_XATTR 77

/* Texts that are paths: a list of names from the last to the first, as in struct
 * exec_record. Others are plain, without an ending zero. */

/* The context of a program at syscalls/sys_enter_* and sys_exit_*. The four bytes
 * behind the call's number are whatever lay on the kernel's stack. */
struct enter_args {
	u64 common;
	s32 number;
	u32 padding;
	u64 args[6];
};

struct exit_args {
	u64 common;
	s32 number;
	u32 padding;
	s64 result;
};

/* The arguments of the system call that ends now. They stay where they were saved
 * until it does, so nothing has to be kept from its beginning. */
static __always_inline struct pt_regs *call_regs(void)
{
	return (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
}

/* Of the call that these registers (`call_regs`) were saved at. */
static __always_inline u64 argument_of(struct pt_regs *regs, u32 index)
{
	struct pt_regs___arm64 *arm = (void *)regs;

	if (bpf_core_field_exists(regs->di)) {
		switch (index) {
		case 0:
			return regs->di;
		case 1:
			return regs->si;
		case 2:
			return regs->dx;
		case 3:
			return regs->r10;
		case 4:
			return regs->r8;
		default:
			return regs->r9;
		}
	}
	return index ? arm->regs[index] : arm->orig_x0;
}

static __always_inline u64 call_argument(u32 index)
{
	return argument_of(call_regs(), index);
}

/* What a call was given, from its beginning to its end, by thread. One whose thread
 * ends in between stays until another needs its place. */
struct call {
	u64 args[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct call);
} calls SEC(".maps");

static __always_inline void keep_call(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call call;

	__builtin_memcpy(call.args, ctx->args, sizeof(call.args));
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
}

/* The call that ends now; false if its beginning was not seen. */
static __always_inline bool take_call(struct call *call)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *kept = bpf_map_lookup_elem(&calls, &thread);

	if (!kept)
		return false;
	*call = *kept;
	bpf_map_delete_elem(&calls, &thread);
	return true;
}

static __always_inline bool is_agents(u32 pid, u64 start_ns)
{
	u32 zero = 0;
	struct control *settings = bpf_map_lookup_elem(&control, &zero);

	/* While it attaches its programs, it does not know its start yet. */
	return settings && settings->own_pid == pid && (!settings->own_start_ns || settings->own_start_ns == start_ns);
}

static __always_inline bool is_agent(struct task_struct *leader)
{
	return is_agents(leader->tgid, leader->start_boottime);
}

/* Begins the record of an act of the current process; 0 where none is to be made:
 * it is the agent's own, the class is left out, or a thread of the kernel. */
static __always_inline struct record_space *begin_acts(u16 type, u32 count_as, u64 acts)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct record_space *s;
	u32 zero = 0;

	if ((task->flags & PF_KTHREAD) || is_agent(leader) || !are_wanted(count_as, acts))
		return 0;
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return 0;
	__builtin_memset(&s->act, 0, sizeof(s->act));
	fill_head(&s->act.head, type, 0, leader);
	s->used = 0;
	return s;
}

static __always_inline struct record_space *begin_act(u16 type, u32 count_as)
{
	return begin_acts(type, count_as, 1);
}

/* Whom it was done to: the process that has this PID in the initial namespace. */
static __always_inline void set_target(struct act_record *act, u32 pid)
{
	u64 *start_ns = bpf_map_lookup_elem(&clock, &pid);

	act->target_pid = pid;
	if (start_ns)
		act->target_start_ns = *start_ns;
}

static __always_inline void end_acts(struct record_space *s, u32 count_as, u64 acts, bool at_once)
{
	u32 size = s->used;

	if (size > DATA_SPACE)
		return;
	size += sizeof(struct act_record);
	s->act.head.size = size;
	send_acts(&s->act, size, count_as, acts, at_once);
}

static __always_inline void end_act(struct record_space *s, u32 count_as, bool at_once)
{
	end_acts(s, count_as, 1, at_once);
}

/* The file behind a descriptor of the current process, as it is now. Each opening of
 * a file comes along here, so what can be loaded without a helper is. */
static __always_inline struct file *file_of(u32 descriptor)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct files_struct *files = task->files;
	struct fdtable *table;
	struct file *file = 0;

	if (!files)
		return 0;
	table = files->fdt;
	if (!table || descriptor >= table->max_fds)
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), table->fd + descriptor);
	return file;
}

/* The socket behind a descriptor of the current process; 0 where it is none. */
static __always_inline struct sock *socket_of(s64 fd)
{
	struct file *file = file_of((u32)fd);
	struct socket *socket;

	if (!file || (LOOK(LOOK(file, f_inode), i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = LOOK(file, private_data);
	return socket ? LOOK(socket, sk) : 0;
}

#endif
