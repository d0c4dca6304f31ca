/* For tests under Wine 8 only, which lacks this DLL: Rust's standard library takes its random numbers from it. */
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{ return SystemFunction036(buffer, (ULONG)length); }
