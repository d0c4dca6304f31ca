/* Values that no well-behaved program writes, below a key of HKLM: each kind that a watch of the registry must bear. */
#include <windows.h>

static BYTE large[1 << 20];

int main(int count, char **words)
{
    HKEY key;
    DWORD at;
    /* A half of a pair that stands alone, and a zero in the middle. */
    static const WCHAR broken[] = {'a', 0xd800, 'b', 0, 'c', 0};
    static const WCHAR broken_name[] = {'h', 'a', 'l', 'f', 0xdc00, 0};
    if (count < 2 || RegCreateKeyExA(HKEY_LOCAL_MACHINE, words[1], 0, NULL, 0, KEY_ALL_ACCESS, NULL, &key, NULL))
        return 1;
    for (at = 0; at < sizeof large; at++)
        large[at] = (BYTE)at;
    if (RegSetValueExW(key, L"large", 0, REG_BINARY, large, sizeof large)
        || RegSetValueExW(key, L"broken", 0, REG_SZ, (const BYTE *)broken, sizeof broken)
        || RegSetValueExW(key, L"odd", 0, REG_SZ, (const BYTE *)"abc", 3)
        || RegSetValueExW(key, broken_name, 0, REG_SZ, (const BYTE *)broken, 4)
        || RegSetValueExW(key, L"short", 0, REG_DWORD, (const BYTE *)"ab", 2)
        || RegSetValueExW(key, L"unknown", 0, 0x7fff0001, (const BYTE *)"ab", 2)
        || RegSetValueExW(key, L"none", 0, REG_NONE, NULL, 0)
        || RegSetValueExW(key, L"many", 0, REG_MULTI_SZ, (const BYTE *)L"x\0y\0", 10))
        return 2;
    RegCloseKey(key);
    return 0;
}
