"""Programming: code of any language, and of one."""

from __future__ import annotations

from saeray.labels.patterns.base import Pattern, code

CODE = (
    code(
        "python",
        "Python",
        r"^[ \t]*(?:def \w+\(|class \w+.*:$|import \w+|from [\w.]+ import|elif |except\b.*:$|if .*:$|for \w+ in .*:$"
        r"|return\b|@\w+)|\bself\.|\bNone\b|^>>> |\bprint\(",
        ("def ", "import ", "self", ">>>", "print("),
    ),
    code(
        "java",
        "Java",
        r"\b(?:public|private|protected) (?:static |final |abstract )*[\w<>\[\]]+|\bimport java|\bSystem\.out|@Override"
        r"|\bnew \w+\(.*\);",
        ("public ", "private ", "System.out", "java"),
    ),
    code(
        "rust",
        "Rust",
        r"\bfn \w+|\blet (?:mut )?\w+|\bimpl\b|\bpub (?:fn|struct|enum|mod)|&mut |println!|::new\(|\buse \w+::|#\[\w+",
        ("fn ", "let ", "impl", "::"),
    ),
    code(
        "javascript",
        "JavaScript",
        r"\bfunction\s*\w*\(|\b(?:const|let|var) \w+ =|=> ?\{|console\.log|document\.|\brequire\(|===",
        ("function", "const ", "var ", "=>"),
    ),
    code(
        "c",
        "C or C++",
        r"#include\s*<|\bstd::|\bint main\(|\bprintf\(|\bcout\b|->\w+|\bvoid \w+\(|\bchar \*",
        ("#include", "std::", "printf(", "cout", "->"),
    ),
    code(
        "go",
        "Go",
        r"\bfunc (?:\(\w+ \*?\w+\) )?\w+\(|:= |\bpackage \w+$|\bif err != nil|\bfmt\.\w+",
        ("func ", ":=", "package "),
    ),
    code(
        "sql",
        "SQL",
        r"\bSELECT\b|\bFROM \w+|\bWHERE\b|\bINSERT INTO\b|\bCREATE TABLE\b|\bGROUP BY\b|\bPRIMARY KEY\b|\bJOIN\b",
        ("SELECT", "CREATE TABLE", "INSERT"),
        2,
    ),
    code("html", "HTML or XML", r"</?[a-zA-Z][\w:-]*(?:\s[^<>]*)?>", ("</", "<")),
    code(
        "shell",
        "shell command",
        r"^[ \t]*\$ \w+|\bsudo \w|^[ \t]*(?:pip|npm|git|cargo|kubectl|curl|apt-get|docker|python|cd|export|echo"
        r"|bash) \S+|^#!/",
        ("$ ", "sudo", "pip ", "git ", "kubectl ", "curl ", "docker", "cargo ", "python ", "#!/", "export "),
        2,
    ),
    code("yaml", "YAML", r"^[ \t]*(?:- )?[\w./-]+:(?: [^\s].{0,60})?$", (":\n",), 5),
    code("json", "JSON", r"^[ \t]*\"[\w$ -]+\":\s|[{,]\s*\"\w+\":", ('":', '" :')),
    code("css", "CSS", r"^[.#]?[\w-]+ ?\{$|\b[\w-]+: [^;{}\n]+;$", ("{",)),
    Pattern(
        "code_any",
        "program code",
        "in program code",
        r"^.*(?:[;{}]|\)\s*:|\w\(\w*\)|\w+ = .+[\w)\]\"'])\s*$",
        4,
        ("(", "{", " = "),
        joined=True,
    ),
    Pattern(
        "code_comment",
        "comments in code",
        "in code comments",
        r"^[ \t]*(?://|#(?!#| ?\d|include)|/\*|\*)\s.*$|\"\"\"[^\"]*(?:\"\"\")?",
        2,
        ("//", "# ", "/*", '"""'),
    ),
    Pattern("code_call", "function calls in code", "", r"\w\(\)|\w\.\w+\(", 1, ("(",)),
    Pattern(
        "code_block",
        "blocks of program code in Markdown fences",
        "inside a code block",
        r"^ *```[\s\S]*?(?:^ *```|\Z)",
        1,
        ("```",),
    ),
    Pattern("code_inline", "inline code in backticks", "in inline code", r"(?<!`)`[^`\n]+`(?!`)", 1, ("`",)),
    Pattern(
        "file_path",
        "file names and paths",
        "in file paths",
        r"(?<![\w/.-])[\w.-]*(?:/[\w.-]+){2,}|(?<!\w)\w+\.(?:py|rs|js|java|md|txt|json|yaml|yml|html|csv|go|sh"
        r"|toml|cfg)\b",
        1,
        ("/", "."),
    ),
    Pattern("command_option", "command-line options", "", r"(?<=\s)--[a-z][\w-]+", 1, ("--",)),
    Pattern("assignment", "assignments with =", "", r"\b[\w\])]+ ?= ?[^=\n]", 3, ("=",)),
)
