/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The few kernel types and fields that the programs read. Offsets are filled in
 * at load time from the running kernel's BTF, so only names and kinds matter
 * here. A name with three underscores is another kernel version's form of the
 * same type.
 */
#ifndef RAMPART_KERNEL_TYPES_H
#define RAMPART_KERNEL_TYPES_H

typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_MAP_TYPE_LRU_HASH = 9, BPF_MAP_TYPE_RINGBUF = 27 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_PROD_POS = 3 };

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004
#define PIDTYPE_SID 3

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	const unsigned char *name;
};

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

struct super_block {
	u32 s_dev;
};

struct inode {
	struct super_block *i_sb;
	u16 i_mode;
	unsigned long i_ino;
	unsigned int i_nlink;
	s64 i_size;
	s64 i_mtime_sec;
	u32 i_mtime_nsec;
	s64 i_ctime_sec;
	u32 i_ctime_nsec;
};

/* 6.7 to 6.10 */
struct inode___timespec {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime; /* from 6.6 on */
};

/* before 6.7 */
struct inode___old {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime; /* before 6.6 */
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct in6_addr {
	u8 bytes[16];
};

struct sock_common {
	u16 skc_family;
	u16 skc_num;
	u16 skc_dport; /* network order */
	unsigned long skc_flags;
	u32 skc_rcv_saddr;
	u32 skc_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct in6_addr skc_v6_daddr;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
};

struct tcp_sock {
	u64 bytes_sent;
	u64 bytes_retrans;
	u64 bytes_received;
};

struct socket {
	struct sock *sk;
};

struct sk_buff {
	unsigned int len;
	unsigned int data_len;
	u16 protocol; /* network order */
	u16 network_header;
	unsigned char *head;
	unsigned char *data;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
};

struct fs_struct {
	struct path pwd;
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
};

struct upid {
	int nr;
};

struct pid {
	struct upid numbers[1];
};

struct tty_struct {
	char name[64];
};

struct signal_struct {
	atomic_t live;
	int nr_threads;
	int group_exit_code;
	unsigned int flags;
	struct pid *pids[4];
	struct tty_struct *tty;
};

struct kernfs_node {
	struct kernfs_node *__parent;
	const char *name;
};

/* before 6.15 */
struct kernfs_node___old {
	struct kernfs_node *parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

enum cgroup_subsys_id {
	pids_cgrp_id = 1,
	memory_cgrp_id = 2,
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	u64 start_boottime;
	struct mm_struct *mm;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	const struct cred *cred;
	struct fs_struct *fs;
	struct files_struct *files;
	struct signal_struct *signal;
	struct css_set *cgroups;
	kuid_t loginuid; /* with CONFIG_AUDIT */
};

struct linux_binprm {
	const char *filename;
};

struct seq_file {
	u64 version;
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop
#endif
