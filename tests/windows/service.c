/* A harmless service, to be started, stopped, removed and put back. Its name is the first argument. */
#include <windows.h>

static SERVICE_STATUS_HANDLE handle;
static HANDLE stopped;

static void tell(DWORD state)
{
    SERVICE_STATUS status = {SERVICE_WIN32_OWN_PROCESS, state, SERVICE_ACCEPT_STOP, 0, 0, 0, 0};
    SetServiceStatus(handle, &status);
}

static DWORD WINAPI control(DWORD asked, DWORD kind, void *data, void *context)
{
    if (asked != SERVICE_CONTROL_STOP)
        return asked == SERVICE_CONTROL_INTERROGATE ? NO_ERROR : ERROR_CALL_NOT_IMPLEMENTED;
    tell(SERVICE_STOP_PENDING);
    SetEvent(stopped);
    return NO_ERROR;
}

static void WINAPI body(DWORD count, char **words)
{
    handle = RegisterServiceCtrlHandlerExA(words[0], control, NULL);
    tell(SERVICE_RUNNING);
    WaitForSingleObject(stopped, INFINITE);
    tell(SERVICE_STOPPED);
}

int main(int count, char **words)
{
    SERVICE_TABLE_ENTRYA table[] = {{count > 1 ? words[1] : "", body}, {NULL, NULL}};
    stopped = CreateEventA(NULL, TRUE, FALSE, NULL);
    return !StartServiceCtrlDispatcherA(table);
}
