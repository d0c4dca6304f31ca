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

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_PROD_POS = 3 };

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004
#define PIDTYPE_SID 3
#define FMODE_WRITE 2
#define SIGKILL 9

/* Which helpers the running kernel has. */
enum bpf_func_id {
	BPF_FUNC_for_each_map_elem = 164,
	BPF_FUNC_task_pt_regs = 175,
	BPF_FUNC_find_vma = 180,
	BPF_FUNC_loop = 181
};

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

typedef struct {
	s64 counter;
} atomic64_t;

struct qstr {
	const unsigned char *name;
};

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

struct file_system_type {
	const char *name;
};

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
	struct file_system_type *s_type;
};

struct address_space {
	atomic_t i_mmap_writable;
};

struct inode {
	u16 i_mode;
	kuid_t i_uid;
	kgid_t i_gid;
	u32 i_rdev;
	struct address_space *i_mapping;
	struct super_block *i_sb;
	void *i_private;
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
	struct super_block *mnt_sb;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	const char *mnt_devname;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

typedef struct {
	atomic64_t refcnt; /* 0 while there is one reference */
} file_ref_t;

struct file {
	u32 f_mode;
	s64 f_pos;
	void *private_data;
	struct path f_path;
	struct inode *f_inode;
	file_ref_t f_ref;
};

/* before 6.13 */
struct file___counted {
	atomic64_t f_count;
};

struct fdtable {
	u32 max_fds;
	struct file **fd;
	unsigned long *close_on_exec;
	unsigned long *open_fds;
};

struct files_struct {
	atomic_t count;
	struct fdtable *fdt;
};

struct in6_addr {
	u8 bytes[16];
};

struct sock_common {
	volatile unsigned char skc_state;
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
	struct pid *sk_peer_pid;
};

struct inet_sock {
	u16 inet_sport; /* network order */
};

struct tcp_sock {
	u64 bytes_sent;
	u64 bytes_retrans;
	u64 bytes_received;
	u64 bytes_acked;
};

struct mptcp_sock {
	struct sock *first;
};

struct socket {
	struct sock *sk;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
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
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct proc_ns_operations {
	const char *name;
};

struct ns_common {
	const struct proc_ns_operations *ops;
	u32 inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct user_namespace {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct time_namespace {
	struct ns_common ns;
};

struct xa_node {
	unsigned char shift;
	void *slots[64];
};

struct xarray {
	void *xa_head;
};

struct idr {
	struct xarray idr_rt;
};

struct pid_namespace {
	struct idr idr;
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct time_namespace *time_ns;
	struct cgroup_namespace *cgroup_ns;
};

/* One set of capabilities; an array of two words before 6.3. */
typedef struct {
	u64 val;
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t suid;
	kgid_t sgid;
	kuid_t euid;
	kgid_t egid;
	kernel_cap_t cap_inheritable;
	kernel_cap_t cap_permitted;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[4];
	struct upid numbers[1];
};

/* An inode of /proc. */
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

struct vm_area_struct {
	void *anon_vma;
	struct file *vm_file;
};

struct kernel_siginfo {
	int si_code;
};

struct bpf_prog_aux {
	u32 id;
	const char *attach_func_name;
	char name[16];
};

enum bpf_prog_type { BPF_PROG_TYPE_UNSPEC };
enum bpf_attach_type { BPF_CGROUP_INET_INGRESS };

struct bpf_prog {
	enum bpf_prog_type type;
	enum bpf_attach_type expected_attach_type;
	u8 tag[8];
	struct bpf_prog_aux *aux;
};

/* With CONFIG_MODULES. */
struct module {
	char name[56];
	bool sig_ok; /* with CONFIG_MODULE_SIG */
};

struct sockaddr_un {
	unsigned short sun_family;
};

struct unix_address {
	int len; /* of what follows */
	struct sockaddr_un name[1];
};

struct unix_sock {
	struct unix_address *addr;
	struct path path;
	struct sock *peer;
};

/* The registers at the entry of a system call: x86-64, and arm64. */
struct pt_regs {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long r10;
	unsigned long r8;
	unsigned long r9;
};

struct pt_regs___arm64 {
	u64 regs[31];
	u64 orig_x0;
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
	unsigned long long sum_sched_runtime;
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
	void *stack;
	struct nsproxy *nsproxy;
	struct pid *thread_pid;
	struct hlist_node pid_links[4];
	char comm[16];
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
