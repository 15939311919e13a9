// Without this the table stands as it is: wrong answers first.
(() => {
  const find = document.getElementById("find"), onlyWrong = document.getElementById("only-wrong");
  const rows = [...document.querySelectorAll("#patient-table tbody tr")];
  const texts = rows.map((row) => [0, 1, 2].map((cell) => row.cells[cell].textContent).join(" ").toLowerCase());
  const show = () => {
    const wanted = find.value.trim().toLowerCase();
    rows.forEach((row, number) => {
      row.hidden = !texts[number].includes(wanted) || (onlyWrong.checked && !row.classList.contains("wrong"));
    });
    document.getElementById("found").textContent = `${rows.filter((row) => !row.hidden).length} shown`;
  };
  find.addEventListener("input", show);
  onlyWrong.addEventListener("change", show);
  document.querySelector(".filter").hidden = false;
})();
