<#
.SYNOPSIS
Installs the Rampart agent as a service, enrols it, and starts it.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\install.ps1 -Server https://edr.example.org:8443 -Token rampart-...

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\install.ps1 -Uninstall
#>
[CmdletBinding()]
param(
    # The server, as its first start printed it.
    [string] $Server,
    # An enrolment token, which is good once.
    [string] $Token,
    # The server's CA or certificate (PEM), where the token does not name it.
    [string] $Cert,
    # Further flags of edr-agent, as in -Flags '-dirs=C:\inetpub','-cpulimit=3'.
    [string[]] $Flags = @(),
    # SHA-256 of edr-agent.exe as it was published, to be compared with what is run.
    [string] $Sha256,
    # Removes the service. Its state stays.
    [switch] $Uninstall
)

$ErrorActionPreference = 'Stop'
$unpacked = Join-Path $PSScriptRoot 'edr-agent.exe'
$state = 'C:\ProgramData\Rampart'

# Only the act is told when it fails: the other arguments hold the token, and errors are logged and shown.
function Invoke-Agent {
    & $agent @args
    if ($LASTEXITCODE -ne 0) { throw "edr-agent $($args[0]) ended with $LASTEXITCODE" }
}

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
$administrator = [Security.Principal.WindowsBuiltInRole]::Administrator
if (-not ([Security.Principal.WindowsPrincipal] $identity).IsInRole($administrator)) {
    throw 'This needs an administrator. Hint: open PowerShell with "Run as administrator" and try again.'
}
if (-not (Test-Path $unpacked)) {
    throw "$unpacked is not there. Hint: unpack the whole zip file into one folder."
}
if (-not $Uninstall -and (-not $Server -or -not $Token)) {
    throw 'Give -Server and -Token, as the console shows them under "Hosts".'
}

# Never run where it was unpacked: whoever may write there could put a library beside the program, which would be
# loaded into it as administrator. Only administrators may write below "Program Files"; the name is new.
$programs = [Environment]::GetFolderPath('ProgramFiles')
$staged = Join-Path $programs "Rampart-setup-$([Guid]::NewGuid().ToString('N'))"
$null = New-Item -ItemType Directory -Path $staged
try {
    $agent = Join-Path $staged 'edr-agent.exe'
    Copy-Item -LiteralPath $unpacked -Destination $agent
    if ($Sha256 -and (Get-FileHash -LiteralPath $agent -Algorithm SHA256).Hash -ne $Sha256) {
        throw "$unpacked is not the program that was published: its SHA-256 is another. Hint: download it again."
    }

    if ($Uninstall) {
        Invoke-Agent '-service=uninstall'
        return
    }

    # What the agent logs from here on is of this installation; an identity or a log may be left of an earlier one.
    $log = Join-Path $state 'agent.log'
    $before = if (Test-Path $log) { (Get-Item $log).Length } else { 0 }
    function Read-NewLog {
        if (-not (Test-Path $log)) { return '' }
        $file = [IO.File]::Open($log, 'Open', 'Read', 'ReadWrite, Delete')
        try {
            # A shorter one was begun anew since.
            if ($file.Length -ge $before) { $null = $file.Seek($before, 'Begin') }
            return (New-Object IO.StreamReader $file).ReadToEnd()
        } finally { $file.Dispose() }
    }

    $arguments = @('-service=install', "-server=$Server", "-token=$Token") + $Flags
    if ($Cert) { $arguments += "-cert=$((Resolve-Path $Cert).Path)" }
    Invoke-Agent @arguments
    Invoke-Agent '-service=start'

    $until = (Get-Date).AddSeconds(60)
    while ($true) {
        $said = Read-NewLog
        if ($said -match 'this host is enrolled already') {
            Write-Output ('The agent is started as the host that it was before; the token is not used. Hint: if the ' +
                "host does not come online at $Server, uninstall, remove $state\agent and install again.")
            return
        }
        if ($said -match 'this host is enrolled') {
            Write-Output "The agent is enrolled at $Server."
            return
        }
        if ($said -match 'could not be enrolled|the agent can''t run') {
            throw "The agent could not be enrolled. Hint: read $log."
        }
        if ((Get-Date) -gt $until) {
            throw "The agent was started but is not enrolled after a minute. Hint: read $log."
        }
        Start-Sleep -Milliseconds 500
    }
} finally { Remove-Item -LiteralPath $staged -Recurse -Force -ErrorAction SilentlyContinue }
