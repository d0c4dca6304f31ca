// The console in a real browser: sign in, find the alert, read the proof, write a rule.
// Started by tests/end-to-end (first_light.rs), which has acted the attack before.
// Fails on any page error, console error or CSP violation.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { chooseOwnPassword, openBrowser } from "./browser.mjs";

const {
  RAMPART_URL: url,
  RAMPART_PASSWORD: password,
  RAMPART_ALERT: alert,
  RAMPART_FOLDER: folder,
  RAMPART_PICTURES: pictures,
} = process.env;
mkdirSync(pictures, { recursive: true });

const { browser, page, complaints, byTestId, shown } = await openBrowser(url);
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
await chooseOwnPassword({ shown, byTestId }, password);

// The dashboard, with its charts drawn.
await shown("nav-dashboard");
await page.getByText("xmrig").first().waitFor({ timeout: 15_000 });
await page.locator(".uplot canvas").nth(1).waitFor({ timeout: 15_000 });
await page.getByText("The password was changed.").waitFor({ state: "hidden", timeout: 30_000 });
await picture("dashboard");

// The alert: its rule, its process among its ancestors, the verified receipt.
await byTestId("nav-alerts").click();
await shown("alert-row");
await picture("alerts");
const openAlert = async () => {
  await page.goto(`${url}/alerts/${alert}`);
  await shown("process-ancestry");
  assert.match(await byTestId("process-ancestry").innerText(), /xmrig/);
  await page.locator('[data-testid="receipt-state"][data-state="verified"]').first().waitFor({ timeout: 15_000 });
  // What else runs on this machine is nobody's business: pictures show only what the test started.
  await page.evaluate((own) => {
    for (const process of document.querySelectorAll('[data-testid="process-ancestry"] li')) {
      if (!process.textContent.includes(own)) process.remove();
    }
  }, folder);
};
await openAlert();
await picture("alert");

// Triage: work begins, and the server knows.
await byTestId("alert-start").click();
await page.locator('[data-testid="alert-status"][data-state="in_progress"]').first().waitFor({ timeout: 15_000 });

// Events: a filter leaves what it names.
await byTestId("nav-events").click();
await shown("event-row");
await byTestId("events-query").fill("xmrig");
await byTestId("events-query").press("Enter");
await page.waitForURL(/xmrig/);
try {
  await page.waitForFunction(() => {
    // What was lost in that time stands among them, whatever is looked for.
    const rows = [...document.querySelectorAll('[data-testid="event-row"]:not(:has([data-testid="gap-row"]))')];
    return rows.length > 0 && rows.every((row) => row.textContent.includes("xmrig"));
  });
} catch (error) {
  const rows = await page.locator('[data-testid="event-row"]').allTextContents();
  throw new Error(`rows of a search for xmrig: ${JSON.stringify(rows)}`, { cause: error });
}
await picture("events");

// Hosts.
await byTestId("nav-hosts").click();
await shown("host-row");
await picture("hosts");

// The host's page says where its events come from.
await byTestId("host-row").getByRole("link").first().click();
await shown("source-running");
await page.locator('[data-testid="source-running"][data-types~="process_start"]').first().waitFor({ timeout: 15_000 });

// A rule with a mistake is refused by the engine with its place; mended, it is saved; then it is deleted.
await byTestId("nav-rules").click();
await shown("rule-row");
await picture("rules");
await byTestId("rule-new").click();
await byTestId("rule-template-process").click();
await shown("rule-editor");
const write = async (condition) => {
  const rule = {
    id: "written-in-a-browser",
    name: "Written in a browser",
    description: "Made by the end-to-end test.",
    type: "process",
    severity: "low",
    enabled: true,
    conditions: [condition],
    actions: ["alert"],
  };
  await page.locator(".cm-content").click();
  await page.keyboard.press("Control+A");
  await page.keyboard.insertText(JSON.stringify(rule, null, 2));
};
await write("nam contains 'never-there'");
// Line 9 is where the condition stands.
const diagnostic = page.locator('[data-testid="rule-diagnostic"]', { hasText: /^9:/ }).first();
await diagnostic.waitFor({ timeout: 15_000 });
assert.match(await diagnostic.innerText(), /`nam`[^]*`name`/, "it says what is wrong, and what was probably meant");
await picture("rule-editor");
await write("name contains 'never-there'");
await diagnostic.waitFor({ state: "detached", timeout: 15_000 });
await byTestId("rule-save").click();
await page.waitForURL(/written-in-a-browser/, { timeout: 15_000 });
await shown("rule-delete");
await byTestId("rule-delete").click();
await byTestId("confirm-accept").click();
await page.waitForURL(/\/rules$/, { timeout: 15_000 });

// Settings.
await byTestId("nav-settings").click();
await page.waitForLoadState("load");
await picture("settings");

// Chinese and dark.
await openAlert();
await byTestId("language-toggle").click();
await page.getByText("告警").first().waitFor({ timeout: 15_000 });
assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
for (let turn = 0; turn < 3; turn += 1) {
  if ((await page.locator("html").getAttribute("data-theme")) === "dark") break;
  await byTestId("theme-toggle").click();
}
assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
await openAlert();
await picture("alert-zh");

await browser.close();
assert.deepEqual(complaints, [], "the browser complained");
console.log("the console shows the attack, its judgement and its end, in two languages");
