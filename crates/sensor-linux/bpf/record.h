/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the kernel side writes and the Rust side reads. The static assertions
 * below are the layout; a test on the Rust side compares them with the offsets
 * that src/record.rs reads at. A change of meaning takes a new RECORD_MAGIC.
 *
 * Byte order is the machine's own: the two sides never part.
 */
#ifndef RAMPART_RECORD_H
#define RAMPART_RECORD_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define RECORD_MAGIC 0x32505352u /* "RSP2" */

#define RECORD_FORK 1
#define RECORD_EXEC 2
#define RECORD_EXIT 3
/* Types from here on are acts: struct act_record; their numbers are in act.h. */
#define RECORD_ACTS 16

/* What is produced, lost and left out is counted under these. src/losses.rs has
 * the event types in the same order. */
#define COUNT_FORK 0
#define COUNT_EXEC 1
#define COUNT_EXIT 2
#define COUNT_NETWORK_CONNECT 3
#define COUNT_NETWORK_ACCEPT 4
#define COUNT_NETWORK_CLOSE 5
#define COUNT_NETWORK_LISTEN 6
#define COUNT_DNS_QUERY 7
#define COUNT_FILE_CREATE 8
#define COUNT_FILE_MODIFY 9
#define COUNT_FILE_DELETE 10
#define COUNT_FILE_RENAME 11
#define COUNT_FILE_ATTRIBUTE 12
#define COUNT_FILE_LINK 13
#define COUNT_SCRIPT_CONTENT 14
#define COUNT_MODULE_LOAD 15
#define COUNT_IMAGE_LOAD 16
#define COUNT_BPF_LOAD 17
#define COUNT_RAW_ACCESS_READ 18
#define COUNT_PROCESS_ACCESS 19
#define COUNT_PROCESS_TAMPER 20
#define COUNT_MEMFD_CREATE 21
#define COUNT_SIGNAL 22
#define COUNT_PRIVILEGE_CHANGE 23
#define COUNT_MOUNT 24
#define COUNT_NAMESPACE 25
#define COUNT_PIPE_CREATE 26
#define COUNT_UNIX_CONNECT 27
#define COUNT_AGENT_TAMPER 28
#define COUNT_TYPES 32

/* Flags of struct exec_record. */
#define EXEC_EXECUTABLE_CUT 1 /* the path's first components are missing */
#define EXEC_CWD_CUT 2
#define EXEC_CGROUP_CUT 4
#define EXEC_ARGS_CUT 8     /* longer than ARGS_MAX */
#define EXEC_ARGS_UNREAD 16 /* the memory could not be read */
/* It was ended before its first instruction, because its ... is on the block list. */
#define EXEC_BLOCKED_NAME 32
#define EXEC_BLOCKED_PATH 64
#define EXEC_BLOCKED_IMAGE 128
#define EXEC_ENVIRONMENT_CUT 256 /* longer than ENVIRONMENT_MAX */

#define ARGS_MAX 16384u
#define ENVIRONMENT_MAX 4096u
#define NO_ID 0xffffffffu /* no login user, no session */

struct record_head {
	u32 magic;
	u16 type;
	u16 flags;
	u32 size; /* of the whole record, head included */
	u32 pid;
	u64 at_ns;    /* nanoseconds since boot, suspend included */
	u64 start_ns; /* of the process pid, on the same clock */
};

struct fork_record {
	struct record_head head; /* pid and start_ns are the child's */
	u32 parent_pid;
	u32 reserved;
	u64 parent_start_ns;
};

struct exit_record {
	struct record_head head;
	u32 wait_status;
	u32 reserved;
};

/* The namespaces of a process, in the order of struct exec_record. */
#define NAMESPACES 7 /* mnt pid net uts ipc user cgroup */

/* Followed by: executable, cwd, cgroup, tty, filename, args, environment, with the
 * lengths given. The three paths are lists of names from the last to the first, each
 * ended by a zero byte, as the kernel's trees are walked upwards. */
struct exec_record {
	struct record_head head;
	u32 parent_pid;
	u32 uid;
	u64 parent_start_ns;
	u32 euid;
	u32 gid;
	u32 login_uid;
	u32 session_id;
	u64 inode;
	s64 modified_s;
	u64 size;
	u32 modified_ns;
	u32 device; /* the kernel's dev_t: major << 20 | minor */
	u32 links;
	u32 args_bytes; /* full length */
	u16 executable_len;
	u16 cwd_len;
	u16 cgroup_len;
	u16 tty_len;
	u16 filename_len; /* as given to execve; only where the path is cut */
	u16 args_len;
	u32 changed_ns;
	s64 changed_s;
	u64 capabilities;            /* effective */
	u32 namespaces[NAMESPACES];  /* their inodes */
	u16 environment_len;         /* the whole of it, only where a variable may matter */
	u16 reserved;
};

/* What may not run; keys of the maps `blocked_texts` and `blocked_images`. A path is a
 * list of names from the last to the first, as in struct exec_record. Unused bytes
 * are zero. */
#define BLOCK_NAME 1
#define BLOCK_PATH 2
#define BLOCK_TEXT_MAX 252

struct blocked_text {
	u32 kind;
	char text[BLOCK_TEXT_MAX];
};

struct blocked_image {
	u64 inode;
	s64 changed_s;
	u32 changed_ns;
	u32 device; /* the kernel's dev_t */
};

/* What a process did, for all hooks alike. Followed by up to four texts with the
 * lengths given; what numbers and texts mean is the type's own (act.h). */
struct act_record {
	struct record_head head; /* pid and start_ns are of who did it; bits 0 to 3 of flags: that text was cut */
	u32 target_pid;          /* 0: nobody */
	s32 result;              /* 0 or more, or a negative errno */
	u64 target_start_ns;     /* 0: not known */
	u64 numbers[9];
	u16 text_len[4];
};

/* One line of the task iterator. */
struct task_record {
	u32 pid;
	u32 parent_pid;
	u64 start_ns;
	u64 parent_start_ns;
	u32 kernel_thread;
	u32 reserved;
};

/* What programs and agent tell each other; the only entry of the map `control`. */
struct control {
	u32 magic;
	u32 wake_on_exec; /* 1: a rule may act on process starts, so don't batch them */
	u64 object_hash;  /* of the programs that are pinned beside it */
	u64 stream;       /* drawn when the ring was made */
	u64 created_ns;
	u64 left_out;     /* bit n: records counted under n are left out, and counted */
	u64 own_start_ns; /* with own_pid: the agent, whose own acts are not told; 0 until it knows */
	u32 own_pid;
	u32 reserved;
	u64 block_until_ns; /* so long what is on the block list is ended; the agent puts it off each second */
};

/* One type's figures, in the per-CPU map `counters`. */
struct counter {
	u64 produced;
	u64 lost;
	u64 left_out; /* not made because `control` says so */
	u64 folded;   /* in the count of another act's record, or still to be */
};

/* How many reports of losses stand behind one record at most. */
#define REPORT_MAX 3

/* Which losses the agent has stored; the only entry of the map `ledger`, which
 * only the agent reads and writes. It lives here so that it lives as long as the
 * counters that it speaks of. Accounts 0 to COUNT_TYPES - 1 are of what was lost,
 * those behind them of what was left out. */
struct ledger {
	u64 reported[2 * COUNT_TYPES]; /* losses whose report is stored */
	u64 checked_ns;                /* when the counters were last looked at */
	u64 handed_out_at;             /* position of the first report on its way; 0 for none */
	u64 account[REPORT_MAX];       /* the accounts of those reports, plus one; 0 for none */
	u64 handed_out[REPORT_MAX];    /* what they will have reported */
};

#define AT(type, field, offset) \
	_Static_assert(__builtin_offsetof(struct type, field) == offset, #type "." #field)
#define SIZE(type, size) _Static_assert(sizeof(struct type) == size, #type)

AT(record_head, magic, 0);
AT(record_head, type, 4);
AT(record_head, flags, 6);
AT(record_head, size, 8);
AT(record_head, pid, 12);
AT(record_head, at_ns, 16);
AT(record_head, start_ns, 24);
SIZE(record_head, 32);

AT(fork_record, parent_pid, 32);
AT(fork_record, parent_start_ns, 40);
SIZE(fork_record, 48);

AT(exit_record, wait_status, 32);
SIZE(exit_record, 40);

AT(exec_record, parent_pid, 32);
AT(exec_record, uid, 36);
AT(exec_record, parent_start_ns, 40);
AT(exec_record, euid, 48);
AT(exec_record, gid, 52);
AT(exec_record, login_uid, 56);
AT(exec_record, session_id, 60);
AT(exec_record, inode, 64);
AT(exec_record, modified_s, 72);
AT(exec_record, size, 80);
AT(exec_record, modified_ns, 88);
AT(exec_record, device, 92);
AT(exec_record, links, 96);
AT(exec_record, args_bytes, 100);
AT(exec_record, executable_len, 104);
AT(exec_record, cwd_len, 106);
AT(exec_record, cgroup_len, 108);
AT(exec_record, tty_len, 110);
AT(exec_record, filename_len, 112);
AT(exec_record, args_len, 114);
AT(exec_record, changed_ns, 116);
AT(exec_record, changed_s, 120);
AT(exec_record, capabilities, 128);
AT(exec_record, namespaces, 136);
AT(exec_record, environment_len, 164);
SIZE(exec_record, 168);

AT(blocked_text, text, 4);
SIZE(blocked_text, 256);
AT(blocked_image, changed_s, 8);
AT(blocked_image, changed_ns, 16);
AT(blocked_image, device, 20);
SIZE(blocked_image, 24);

AT(act_record, target_pid, 32);
AT(act_record, result, 36);
AT(act_record, target_start_ns, 40);
AT(act_record, numbers, 48);
AT(act_record, text_len, 120);
SIZE(act_record, 128);

AT(task_record, pid, 0);
AT(task_record, parent_pid, 4);
AT(task_record, start_ns, 8);
AT(task_record, parent_start_ns, 16);
AT(task_record, kernel_thread, 24);
SIZE(task_record, 32);

AT(control, magic, 0);
AT(control, wake_on_exec, 4);
AT(control, object_hash, 8);
AT(control, stream, 16);
AT(control, created_ns, 24);
AT(control, left_out, 32);
AT(control, own_start_ns, 40);
AT(control, own_pid, 48);
AT(control, block_until_ns, 56);
SIZE(control, 64);

AT(counter, produced, 0);
AT(counter, lost, 8);
AT(counter, left_out, 16);
AT(counter, folded, 24);
SIZE(counter, 32);

AT(ledger, reported, 0);
AT(ledger, checked_ns, 512);
AT(ledger, handed_out_at, 520);
AT(ledger, account, 528);
AT(ledger, handed_out, 552);
SIZE(ledger, 576);

#undef AT
#undef SIZE
#endif
