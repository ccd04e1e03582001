"""Function words of fifteen languages, as lists.

Closed classes of a grammar, written down by hand for `text_stats.stop_words`; of Chinese and Japanese, which put no
spaces between words, the characters that mostly serve grammar.
"""

from __future__ import annotations

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": """
            a about above across after against all along although am among an and another any anybody anyone anything
            are aren't around as at be because been before behind being below beneath beside besides between beyond
            both but by can can't cannot could couldn't despite did didn't do does doesn't doing don't down during
            each either else even ever every everybody everyone everything except few for from further had hadn't has
            hasn't have haven't having he he's her here hers herself him himself his how however i i'd i'll i'm i've
            if in inside instead into is isn't it it's its itself just let's like many may me might mine more most
            much must my myself near neither no nobody none nor not nothing now of off on once one only onto or other
            others ought our ours ourselves out outside over own per quite rather same shall she she's should
            shouldn't since so some somebody someone something such than that that's the their theirs them themselves
            then there there's these they they're they've this those though through throughout thus till to together
            too toward towards under unless unlike until up upon us used very via was wasn't we we'll we're we've were
            weren't what what's whatever when whenever where whereas wherever whether which while who who's whoever
            whom whose why will with within without won't would wouldn't yet you you'll you're you've your yours
            yourself yourselves""",
        "de": """
            ab aber alle allem allen aller alles als also am an andere anderen anderer anderes ans auch auf aus außer
            bei beide beiden beim bevor bin bis bist da dabei dadurch dafür dagegen daher damit danach daneben dann
            daran darauf daraus darin darüber darum das dass davon davor dazu dein deine deinem deinen deiner dem den
            denen denn der deren des dessen dich die dies diese diesem diesen dieser dieses dir doch dort du durch
            eben ein eine einem einen einer eines einige einigen er es etwa etwas euch euer eure falls für gegen habe
            haben hat hatte hatten hier hinter ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist ja je
            jede jedem jeden jeder jedes jedoch jene kann kannst kein keine keinem keinen keiner können könnte könnten
            man manche manchmal mehr mein meine meinem meinen meiner mich mir mit muss müssen nach nachdem neben nicht
            nichts noch nun nur ob obwohl oder ohne schon sehr sein seine seinem seinen seiner seit selbst sich sie
            sind so solche solchen soll sollen sollte sollten sondern sonst sowie statt trotz über um und uns unser
            unsere unter viel viele vielen vom von vor wann war waren warum was wegen weil welche welchem welchen
            welcher welches wenig wenn wer werde werden wie wieder will wir wird wo wobei wodurch wofür wollen worden
            wurde wurden während würde würden zu zum zur zwar zwischen""",
        "fr": """
            a afin ai ainsi alors après as au aucun aucune aussi autour autre autres aux avait avaient avant avec avez
            avoir avons bien c'est car ce ceci cela celle celles celui cependant ces cet cette ceux chaque chez comme
            comment contre d'un d'une dans de depuis derrière des dès donc dont du durant elle elles en encore entre
            es est et étaient était étant été être eu eux fait faire fois font furent fut hors il ils j'ai je jusqu'à
            jusque l'on la là laquelle le lequel les lesquelles lesquels leur leurs lors lorsque lui ma mais malgré me
            même mêmes mes mien moi moins mon n'est ne ni non nos notre nous on ont or ou où par parce parmi pas
            pendant peu peut peuvent plus plusieurs plutôt pour pourquoi près puis puisque qu'il qu'ils qu'on qu'un
            qu'une quand que quel quelle quelles quelque quelques quels qui quoi rien s'il sa sans sauf se selon sera
            seront ses si sien soi soit sommes son sont sous souvent suis sur ta tandis tant te tel telle telles tels
            tes toi ton toujours tous tout toute toutes très tu un une unes uns vers voici voilà vos votre vous y""",
        "es": """
            a al algo alguien algún alguna algunas alguno algunos ambos ante antes aquel aquella aquellas aquello
            aquellos aquí así aun aún aunque bajo bien cada casi como cómo con contra cual cuál cuales cualquier
            cuando cuándo cuanto de debe deben del desde después donde dónde dos durante e el él ella ellas ello ellos
            en entre era eran eres es esa esas ese eso esos esta está estaba estaban estado están estar estas este
            esto estos estoy fue fueron ha había habían han hasta hay he hemos incluso la las le les lo los más me
            mediante menos mi mí mientras mis mismo misma mismos mismas mucho muchos muy nada ni ningún ninguna
            ninguno no nos nosotros nuestra nuestro nuestras nuestros nunca o os otra otras otro otros para pero poco
            por porque primero pueda puede pueden pues que qué quien quién quienes se sea sean según ser será si sí
            siempre sin sino sobre sólo solo son soy su sus suya suyo también tampoco tan tanto te tengo ti tiene
            tienen toda todas todavía todo todos tras tu tú tus un una unas uno unos usted ustedes vosotros y ya yo""",
        "it": """
            a abbia abbiamo ad agli ai al alcun alcuna alcune alcuni alla alle allo allora altra altre altri altro
            anche ancora anzi aveva avevano avere avete c'è che chi ci ciascun ciò cioè come con contro così cui da
            dagli dai dal dall dalla dalle dallo degli dei del dell della delle dello dentro di dopo dove dovere due
            durante e è ed egli era erano essa esse essere essi fa fra già gli ha hai hanno ho i il in infatti invece
            io la là le lei li lo loro lui ma me meno mentre mi mia mie miei mio molta molte molti molto ne né negli
            nei nel nella nelle nello nessun nessuna nessuno niente no noi non nostra nostre nostri nostro nulla o od
            ogni oltre oppure ora per perché però perciò più piuttosto poco poi possono presso prima può qual quale
            quali qualche qualcosa quando quanto quasi quella quelle quelli quello quest questa queste questi questo
            qui quindi sarà saranno se sé sebbene secondo sei sempre senza si sì sia siamo siano siete solo sono sopra
            sotto sta stata state stati stato stesso su sua sue sugli sui sul sulla sulle sullo suo suoi tale tali
            tanto te ti tra tranne troppo tu tua tue tuo tuoi tutta tutte tutti tutto un una uno verso vi via voi
            vostra vostro""",
        "pt": """
            a à alguém algum alguma algumas alguns ainda além ambos ante antes ao aos apenas após aquela aquelas
            aquele aqueles aquilo as às assim até através bem cada com como contra cujo da das de dela dele deles
            dentro depois desde dessa desse desta deste do dos durante e é ela elas ele eles em embora enquanto entre
            era eram essa essas esse esses esta está estão estas estar estava este estes eu foi for foram há isso isto
            já lhe lhes logo mais mas me mediante mesma mesmo meu meus mim minha minhas muita muitas muito muitos na
            nada não nas nem nenhum nenhuma nessa nesse nesta neste ninguém no nos nós nossa nosso nossas nossos num
            numa nunca o onde os ou outra outras outro outros para pela pelas pelo pelos perante pode podem pois por
            porém porque portanto pouco qual quais quando quanto quase que quem se seja sejam sem sempre sendo ser
            será seu seus si sido só sob sobre sua suas são também tão tanto te tem têm ter teu teve tinha toda todas
            todo todos tu tua tudo um uma umas uns vai você vocês vos vós""",
        "nl": """
            aan achter al alle alleen alles als altijd andere anderen ben bent bij binnen boven buiten daar daarin
            daarna daarom dan dat de deze die dit doch doen door dus een eens echter elk elke en enige er ergens erg
            ge geen geweest haar had hadden heb hebben hebt heeft hem hen het hier hij hoe hoewel hun ieder iedere
            iemand iets ik in indien is ja je jij jou jouw jullie kan kon konden kunnen langs maar me meer men met mij
            mijn misschien moest moet moeten mogen na naar naast niemand niet niets noch nog nooit nu of om omdat
            onder ons onze ook op over reeds rond sinds sommige steeds te tegen tenzij terwijl toch toen tot totdat
            tussen u uit uw vaak van vanaf veel via volgens voor voordat waar waarin waarom waren was wat we weer wel
            welk welke werd werden wie wij wil wordt worden zal ze zeer zelf zich zij zijn zo zoals zonder zou zouden
            zullen""",
        "sv": """
            alla allt alltid än ännu andra annan annat är åt att av bakom bara blev bli blir bland bredvid då där
            därför de deg dem den denna dess dessa det detta dig din dina ditt dock du efter eftersom ej eller en
            enligt er era ert ett få får finns flera för före först från genom gör göra ha hade han hans har hej hela
            hellre hennes hon honom hos hur här i ibland icke igen inga ingen inget ingenting innan inne inom inte ja
            jag kan kommer kunde kunna kring man många måste med mellan men mer mera mest mig min mina mindre mitt mot
            mycket ned ner ni någon något några nu när nära och också om ovan på redan sådan såsom samma samt se sedan
            sig sin sina sitt själv ska skall skulle så som till trots under upp ur ut utan utom vad var vara varför
            varit varje vars vart vem vi vid vilka vilken vilket vill via vår våra vårt åter över""",
        "pl": """
            a aby ale albo ani aż bardzo bez bo by był była było były być będą będzie chociaż ci cię co coś czy czyli
            dla do gdy gdzie go i ich im inna inne inny ja jak jakaś jaki jako je jeden jednak jego jej jest jestem
            jeszcze jeśli jeżeli już każda każde każdy kiedy kilka kto ktoś która które którego której który których
            którym lecz lub ma mam mają między mi mimo mną mnie moja moje może można mój mu musi my na nad nam nami
            nas nasz nasze nawet nic nich nie niech nigdy nim niż o obok od on ona one oni ono oraz pan po pod podczas
            ponieważ poza przed przede przez przy również są się sobie swoje swój ta tak taka taki takie także tam te
            tego tej ten też to tobie tu twój ty tych tylko tym u w was we wiele więc wszystkie wszystko wy z za
            zawsze ze że żaden żeby""",
        "cs": """
            a aby aj ale ani aniž ano asi až bez bude budou bych by byl byla byli bylo být co což či do dokud ho i já
            jak jako je jeho její jejich jen jenž ještě jestli jestliže ji již jich jim jiné jiný jsem jsi jsme jsou
            jste k kam každý kde kdo kdy když ke která které kterou který kteří ku ma mají máte mé mě mezi mi mít mně
            mnou moc mohou moje můj může my na nad nade nám námi nás naše nebo něco nějaký nebyl není než nic nich ním
            no nový o od on ona oni ono pak po pod podle pokud potom pouze právě pro proč proto protože před přes při
            s se si sice skoro snad své svůj svých ta tak také takže tam tato te tě tedy ten tento této tím tímto to
            tobě toho tohoto tom tomu tu tuto ty tyto u už v vám vámi vás váš ve více však všechen všechno všichni vy
            z za zda zde ze že""",
        "ru": """
            а без более бы был была были было быть в вам вами вас ваш ваша ваше ведь весь во вот все всё всегда всего
            всех вы где да даже для до другие другой его ее её ей ему если есть еще ещё же за здесь и из или им ими
            иногда их к каждый как какая какие какой когда которая которого которой которые который которых кроме кто
            куда ли либо лишь между меня мне много может можно мной мои мой моя мы на над надо нам нами нас наш наша
            не него нее ней некоторые нельзя несколько нет ни нибудь никогда ним них ничего но ну о об однако он она
            они оно от очень перед по под после потому почему почти при про раз с сам самый свои свой своих своя себе
            себя сейчас со совсем так также такие такой там те тебе тебя тем теперь то тобой тогда того тоже той
            только том тот ты у уже хотя чего чем через что чтоб чтобы эта эти этим этих это этого этой этом этот эту
            я""",
        "id": """
            ada adalah agar akan antara apa apabila apakah atas atau bagaimana bagi bahkan bahwa banyak beberapa
            begitu belum berbagai bila bisa bukan dalam dan dapat dari daripada dengan demikian di dia hal hanya harus
            hingga ia ini itu jadi jika juga kalau kami kamu karena ke kecuali kemudian kepada ketika kita lagi lain
            lainnya lalu lebih maka mana masih mau melainkan melalui mereka meskipun misalnya mungkin namun oleh pada
            padahal para pernah pula pun saat saja sama sampai sangat saya seandainya sebab sebagai sebelum sebuah
            secara sedang sehingga sejak sekitar selain selama seluruh semua sendiri seorang seperti serta sesuatu
            sesudah setelah setiap siapa suatu sudah supaya tanpa tapi telah tentang terhadap tersebut tetapi tiap
            tidak untuk yaitu yakni yang""",
        "tr": """
            acaba ama ancak artık asla aslında ayrıca az bana bazen bazı belki ben benden beni benim beri bile bir
            birçok biri birkaç birşey biz bize bizi bizim böyle bu buna bunda bundan bunlar bunu bunun burada çok
            çünkü da daha dahi de defa değil diğer diye dolayı eğer en fakat gibi göre hala hangi hatta hem henüz hep
            hepsi her herhangi herkes hiç hiçbir için ile ilgili ise işte kadar karşın kendi kendine kendini kez ki
            kim kimse madem mı mi mu mü nasıl ne neden nedenle nerede niçin niye o olan olarak oldu olduğu olduğunu
            olmak olsa olup olur ona ondan onlar onların onu onun orada oysa öyle pek rağmen sadece sanki şayet şey
            şimdi siz size sizi sizin sonra şöyle şu şunu tarafından tüm üzere var ve veya ya yani yapılan yerine yine
            yoksa zaten""",
        "zh": """
            的 了 是 在 不 和 有 我 他 她 它 们 这 那 就 也 都 而 及 与 或 之 以 于 为 被 把 从 到 对 将 会 能
            可 要 你 您 其 此 所 者 么 什 如 若 则 但 因 由 向 很 更 最 再 又 还 没 无 个 每 各 某 吗 呢 吧 啊
            着 过 得 地 上 下 中 里 来 去 這 個 們 為 與 於 從 對 將 會 過 還 沒 無 來 後 让 使 并 且 只 才 已
            当 時 时 后 前""",
        "ja": """
            の に は を た が で て と し れ さ あ る も す な よ ら こ い う そ か く ま け ど だ え ず き り
            わ ば せ め お""",
    }.items()
}
