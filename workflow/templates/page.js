"use strict"
const root = document.documentElement

const themeSwitch = document.getElementById("theme-switch")
const systemDark = window.matchMedia("(prefers-color-scheme: dark)")
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches)
const nameTheme = () => { themeSwitch.textContent = isDark() ? "Light" : "Dark" }
themeSwitch.hidden = false
themeSwitch.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark"
  try { localStorage.setItem("theme", root.dataset.theme) } catch { /* a page from disk may not store anything */ }
  nameTheme()
})
systemDark.addEventListener("change", nameTheme)
nameTheme()

const codeSwitch = document.getElementById("code-switch")
const cells = document.querySelectorAll("details.code")
codeSwitch.hidden = cells.length === 0
codeSwitch.addEventListener("click", () => {
  const open = codeSwitch.getAttribute("aria-pressed") !== "true"
  codeSwitch.setAttribute("aria-pressed", String(open))
  for (const cell of cells) cell.open = open
})

// The list of sections stands open beside the text, and folded above it where there is no room beside.
const contents = document.querySelector(".contents details")
if (contents && window.innerWidth < 1184) contents.open = false

// Whatever is too wide must be reachable with the keyboard, also after a turn of the phone or an unfolding.
const reach = (box) => {
  const scrolls = box.scrollWidth > box.clientWidth
  box.classList.toggle("scrolls", scrolls)
  if (!scrolls) return
  box.tabIndex = 0
  if (box.tagName === "FIGURE") return
  if (!box.hasAttribute("role")) box.setAttribute("role", "group")
  if (!box.hasAttribute("aria-label")) box.setAttribute("aria-label", "Scrolls sideways")
}
const sizes = new ResizeObserver((entries) => { for (const entry of entries) reach(entry.target) })
for (const box of document.querySelectorAll(".scroll, .formula, .study-figure, pre")) sizes.observe(box)

// The table of claims shows those of one notebook, of one outcome, or of both.
const filters = [...document.querySelectorAll("#claims select")]
for (const filter of filters) {
  filter.closest(".choices").hidden = false
  filter.addEventListener("change", () => {
    for (const row of document.querySelectorAll("#claims tbody tr")) {
      row.hidden = filters.some((each) => each.value && row.dataset[each.dataset.filter] !== each.value)
    }
  })
}

const partsMenu = document.querySelector(".parts")
document.addEventListener("click", (event) => { if (!partsMenu.contains(event.target)) partsMenu.open = false })
document.addEventListener("keydown", (event) => { if (event.key === "Escape") partsMenu.open = false })
