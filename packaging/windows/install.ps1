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
    # Removes the service. Its state stays.
    [switch] $Uninstall
)

$ErrorActionPreference = 'Stop'
$agent = Join-Path $PSScriptRoot 'edr-agent.exe'
$state = 'C:\ProgramData\Rampart'

function Invoke-Agent {
    & $agent @args
    if ($LASTEXITCODE -ne 0) { throw "edr-agent $args ended with $LASTEXITCODE" }
}

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
$administrator = [Security.Principal.WindowsBuiltInRole]::Administrator
if (-not ([Security.Principal.WindowsPrincipal] $identity).IsInRole($administrator)) {
    throw 'This needs an administrator. Hint: open PowerShell with "Run as administrator" and try again.'
}
if (-not (Test-Path $agent)) { throw "$agent is not there. Hint: unpack the whole zip file into one folder." }

if ($Uninstall) {
    Invoke-Agent '-service=uninstall'
    return
}
if (-not $Server -or -not $Token) { throw 'Give -Server and -Token, as the console shows them under "Hosts".' }

$arguments = @('-service=install', "-server=$Server", "-token=$Token") + $Flags
if ($Cert) { $arguments += "-cert=$((Resolve-Path $Cert).Path)" }
Invoke-Agent @arguments
Invoke-Agent '-service=start'

# The state directory has an identity as soon as the server gave one.
$until = (Get-Date).AddSeconds(60)
while (-not (Test-Path (Join-Path $state 'agent\identity.json'))) {
    if ((Get-Date) -gt $until) {
        throw "The agent runs but is not enrolled after a minute. Hint: read $state\agent.log."
    }
    Start-Sleep -Milliseconds 500
}
Write-Output "The agent is enrolled at $Server."
