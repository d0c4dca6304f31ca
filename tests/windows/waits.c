/* A harmless program to be seen, suspended and ended: waits SECONDS [after connecting to ADDRESS PORT, or after
   starting PROGRAM ARGUMENT: SECONDS run PROGRAM ARGUMENT]. With any other words it waits for an hour. */
#include <winsock2.h>
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words)
{
    int seconds = count > 1 ? atoi(words[1]) : 0;
    if (count > 4 && !strcmp(words[2], "run")) {
        char line[512];
        STARTUPINFOA how = {sizeof how};
        PROCESS_INFORMATION made;
        snprintf(line, sizeof line, "%s %s", words[3], words[4]);
        if (!CreateProcessA(NULL, line, NULL, NULL, FALSE, 0, NULL, NULL, &how, &made))
            return 4;
    } else if (count > 3 && atoi(words[3]) > 0) {
        WSADATA data;
        struct sockaddr_in to;
        WSAStartup(MAKEWORD(2, 2), &data);
        SOCKET peer = socket(AF_INET, SOCK_STREAM, 0);
        memset(&to, 0, sizeof to);
        to.sin_family = AF_INET;
        to.sin_addr.s_addr = inet_addr(words[2]);
        to.sin_port = htons((unsigned short)atoi(words[3]));
        if (connect(peer, (struct sockaddr *)&to, sizeof to) != 0)
            return 3;
    }
    Sleep((seconds > 0 ? seconds : 3600) * 1000);
    return 0;
}
