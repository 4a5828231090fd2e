//! Given names that many people have: what tells a person's `name` from that of a place, an app or a metric.
//!
//! Few enough to be no more than a hint for two words with capitals under that key; a name in a sentence is not looked for.

use std::sync::LazyLock;

/// In order, in lower case.
const NAMES: &str = "\
    aaron abdul abigail abraham adam adrian adriana ahmad ahmed aiden aisha alan albert alejandra alejandro aleksandr alex \
    alexander alexandra alexandre alexei alexey alexis alfred ali alice alicia alison allison alyssa amanda amber amelia \
    amir amy ana anastasia andre andrea andreas andrei andrew andrey andy angela angelica anita ann anna anne annette \
    annie anthony antoine anton antonio aria ariana arthur ashley austin ava barbara beatrice ben benjamin bernard beth \
    betty beverly bill billy bob bobby brad bradley brandon brenda brian brianna britney brittany bruce bryan caleb \
    cameron camille carl carla carlos carmen carol caroline carolyn catherine cecilia chad charles charlie charlotte \
    cheryl chloe chris christian christina christine christopher cindy claire clara claudia colin connor craig crystal \
    cynthia daniel daniela danielle danny darius darren david dawn dean deborah debra denise dennis derek diana diane \
    diego dmitri dmitry dominic donald donna dorothy douglas dylan earl eddie edgar eduardo edward edwin eileen elaine \
    eleanor elena eli elijah elizabeth ella ellen emily emma enrique eric erica erik erin ethan eugene eva evan evelyn \
    fatima felix fernando fiona frances francesca francis francisco frank franz fred frederick gabriel gabriela gary gavin \
    george gerald gina giovanni giulia glenn gloria grace greg gregory guillermo gustavo hannah hans harold harry harvey \
    hassan heather hector heidi helen helena henri henry herbert hiroshi howard hugo hussein ian ibrahim igor ingrid irene \
    irina isaac isabel isabella ivan jack jackie jackson jacob jacqueline jaime jake james jamie jan jane janet janice \
    jared jasmine jason javier jay jean jeff jeffrey jennifer jenny jeremy jerry jesse jessica jill jim jimmy joan joanna \
    joe joel johan johann john johnny jonathan jordan jorge jose joseph josh joshua juan judith judy julia julian juliana \
    julie justin karen karl karla kate katherine kathleen kathryn kathy katie kayla keith kelly ken kenneth kevin kim \
    kimberly klaus kristen kyle lance larry laura lauren laurence lawrence leah leo leon leonard leslie liam lillian linda \
    lisa logan lori louis louise lucas lucia lucy luigi luis luke lydia madison maggie manuel marc marcel marco marcos \
    marcus margaret maria mariana marie marilyn mario marion mark martha martin mary mason mateo matthew maureen maurice \
    max maxim megan melanie melissa mercedes mia michael michel michele michelle miguel mike mikhail mohamed mohammad \
    mohammed molly monica morgan muhammad nadia nancy naomi natalia natalie natasha nathan nathaniel neil nicholas nick \
    nicole nikolai nina noah noel nora norman oleg olga oliver olivia omar oscar pablo pamela patricia patrick paul paula \
    pauline pavel pedro peggy penelope peter petra philip phillip phyllis pierre priya rachel rafael raj rajesh ralph \
    ramon randy raul ray raymond rebecca ricardo richard rick rita robert roberto robin rodney roger roland ronald rosa \
    rose ross roy ruben russell ruth ryan sabrina sally salvatore sam samantha samuel sandra sara sarah scott sean \
    sebastian sergei sergey sergio seth shannon sharon shawn sheila shirley silvia simon sofia somchai sonia sophia sophie \
    spencer stacy stanley stefan stella stephanie stephen steve steven stuart susan svetlana sylvia tamara tanya tara \
    tatiana ted teresa terry thomas tiffany tim timothy tina todd tom tommy tony tracy travis tyler valentina valerie \
    vanessa vera veronica vicki victor victoria vincent violet virginia vladimir walter wanda wayne wendy william xavier \
    yasmin yuki yuri yusuf yvonne zachary zoe";

static SORTED: LazyLock<Vec<&'static [u8]>> = LazyLock::new(|| NAMES.split(' ').map(str::as_bytes).collect());

/// Whether the first word of some is a given name.
pub(super) fn starts(words: &[u8]) -> bool {
    const MAX_BYTES: usize = 12;
    let first = words.iter().take(MAX_BYTES).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let name = words[..first].to_ascii_lowercase();
    words.get(first) == Some(&b' ') && SORTED.binary_search(&name.as_slice()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_found() {
        assert!(SORTED.is_sorted());
        for (words, expected) in
            [("John Smith", true), ("ZOE Kravitz", true), ("Johns Hopkins", false), ("CPU Usage", false), ("John", false)]
        {
            assert_eq!(starts(words.as_bytes()), expected, "{words}");
        }
    }
}
