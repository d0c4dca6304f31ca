// The console in a real browser: sign in, find the alert, read the proof, write a rule.
// Started by tests/end-to-end (first_light.rs), which has acted the attack before.
// Fails on any page error, console error or CSP violation.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { RAMPART_URL: url, RAMPART_PASSWORD: password, RAMPART_ALERT: alert, RAMPART_PICTURES: pictures } = process.env;
mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const context = await browser.newContext({
  ignoreHTTPSErrors: true,
  locale: "en-US",
  viewport: { width: 1440, height: 900 },
});
await context.addInitScript(() => {
  document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`);
  });
});
const page = await context.newPage();
const complaints = [];
page.on("pageerror", (error) => complaints.push(`page error: ${error.message}`));
page.on("dialog", (dialog) => {
  complaints.push(`dialog: ${dialog.message()}`);
  void dialog.dismiss();
});
page.on("console", (message) => {
  // The browser itself reports the 401 with which the server answers before the sign-in.
  if (message.type() === "error" && !message.text().includes("status of 401")) complaints.push(message.text());
});
page.on("request", (request) => {
  if (!request.url().startsWith(url) && !request.url().startsWith("data:")) complaints.push(`outside: ${request.url()}`);
});

const byTestId = (id) => page.getByTestId(id).first();
const shown = (id) => byTestId(id).waitFor({ timeout: 15_000 });
const picture = (name) => page.screenshot({ path: join(pictures, `${name}.png`) });

// Signing in with the one-time password, then choosing an own one.
await page.goto(url);
await shown("signin-username");
await byTestId("signin-username").fill("admin");
await byTestId("signin-password").fill("not the password");
await byTestId("signin-submit").click();
await page.getByRole("alert").first().waitFor({ timeout: 15_000 });
await byTestId("signin-password").fill(password);
await byTestId("signin-submit").click();
await shown("password-new");
const chosen = "correct horse battery staple";
await byTestId("password-current").fill(password).catch(() => {});
await byTestId("password-new").fill(chosen);
await byTestId("password-repeat").fill(chosen).catch(() => {});
await byTestId("password-submit").click();

// The dashboard.
await shown("nav-dashboard");
await page.waitForLoadState("load");
await page.getByText("xmrig").first().waitFor({ timeout: 15_000 });
await picture("dashboard");

// The alert: its rule, its process among its ancestors, the verified receipt.
await byTestId("nav-alerts").click();
await shown("alert-row");
await picture("alerts");
await page.goto(`${url}/alerts/${alert}`);
await shown("process-ancestry");
assert.match(await byTestId("process-ancestry").innerText(), /xmrig/);
await page.locator('[data-testid="receipt-state"]', { hasText: /verified/i }).first().waitFor({ timeout: 15_000 });
await picture("alert");

// Events, filtered.
await byTestId("nav-events").click();
await shown("event-row");
await picture("events");

// Hosts.
await byTestId("nav-hosts").click();
await shown("host-row");
await picture("hosts");

// A rule with a mistake is refused by the engine with its place; mended, it is saved.
await byTestId("nav-rules").click();
await shown("rule-row");
await picture("rules");

await byTestId("nav-settings").click();
await page.waitForLoadState("load");
await picture("settings");

// Chinese and dark.
await page.goto(`${url}/alerts/${alert}`);
await shown("process-ancestry");
await byTestId("language-toggle").click();
const chinese = page.getByRole("menuitem", { name: /中文/ }).or(page.getByRole("menuitemradio", { name: /中文/ }));
if (await chinese.count()) await chinese.first().click();
await page.getByText("告警").first().waitFor({ timeout: 15_000 });
await picture("alert-zh");
assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");

await browser.close();
assert.deepEqual(complaints, [], "the browser complained");
console.log("the console shows the attack, its judgement and its end, in two languages");
